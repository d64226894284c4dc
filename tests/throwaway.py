"""A throw-away copy of the house with chapters of its own, and the commands of `make` run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelbook:
  level: introductory
  meaning: compare
  needs: []
  papers: [ntk]
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# {title}
"""


def chapter(*cells: str, title: str = "The neural tangent kernel") -> str:
    """A chapter's source with these code cells; a cell that begins with `#text ` is prose instead."""
    parts = [HEAD.format(title=title)]
    for cell in cells:
        parts.append(
            cell.removeprefix("#text ") + "\n" if cell.startswith("#text ") else f"```{{code-cell}} ipython3\n{cell}\n```\n"
        )
    return "\n".join(parts)


class Copy:
    """A checkout with a few chapters, its own library where asked for, and the commands that build it."""

    def __init__(self, root: Path, library: bool = False):
        self.root = root
        for name in ("_config.yml", "jupytext.toml", "assets"):
            source = HOUSE / name
            shutil.copytree(source, root / name) if source.is_dir() else shutil.copy(source, root / name)
        for name in ("papers.yml", "outline.yml"):
            (root / "book").mkdir(exist_ok=True)
            shutil.copy(HOUSE / "book" / name, root / "book" / name)
        (root / "book" / "intro.md").write_text("# Intro\n\nWords.\n")
        (root / "book" / "ledger.md").write_text("# The ledger\n\n```{ledger}\n```\n")
        self.environment = {**os.environ, "KERNELBOOK_ROOT": str(root), "PYTHONUTF8": "1"}
        for name in ("KERNELBOOK_SEED", "KERNELBOOK_SCALE"):
            self.environment.pop(name, None)
        if library:
            shutil.copytree(HOUSE / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            self.environment["PYTHONPATH"] = str(root / "lib")

    def write(self, name: str, text: str) -> Path:
        """Put a chapter into the book and its table of contents."""
        path = self.root / "book" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files = sorted(p.relative_to(self.root).with_suffix("").as_posix() for p in (self.root / "book").rglob("*.md"))
        entries = "".join(f"  - file: {f}\n" for f in files if f != "book/intro")
        (self.root / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nparts:\n- caption: Part\n  chapters:\n{entries}")
        return path

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**self.environment, **environment}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run_chapters(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The first half of `make book`."""
        plain = ("-q", "--no-header", "-p", "no:cacheprovider", "--color=no", "--rootdir", str(self.root), "-c", os.devnull)
        return self.python("-m", "pytest", "--nbmake", *plain, *options, "book", **environment)

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """The second half of `make book`."""
        return self.python("-m", "kernelbook.pages.build", **environment)
