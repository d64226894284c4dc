"""Collect the frozen text corpora, once: `python tools/make_text.py`. The book reads the files and never the packages.

Docstrings of public functions and classes, and sources of standard-library functions; every k-th, so that all parts are in.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "book" / "data" / "text"
PACKAGES = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "skimage": "scikit-image", "networkx": "networkx"}
PACKAGES |= {"torch": "torch"}
LICENSES = dict.fromkeys(PACKAGES, "BSD-3-Clause") | {"stdlib": "PSF-2.0"}
DOCSTRINGS, SOURCES = 250, 600  # most records of each package, and of sources
LENGTH = {"docstrings": (200, 1200), "sources": (150, 1200)}  # characters


def files(package: str) -> list[Path]:
    paths = sysconfig.get_paths()
    root = Path(paths["stdlib"]) if package == "stdlib" else Path(paths["purelib"]) / package
    skipped = {
        "site-packages",
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "_vendor",
        "_vendored_packages",
        "externals",
        "include",
        "lib-dynload",
    }
    found = [p for p in root.rglob("*.py") if not skipped & set(p.relative_to(root).parts)]
    return sorted(p for p in found if p.name not in ("conftest.py", "setup.py"))


def definitions(package: str) -> Iterator[tuple[str, str, ast.AST]]:
    for path in files(package):
        try:
            text = path.read_text("utf8")
            tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                yield f"{path.stem}.{node.name}", text, node


def thinned(records: list[dict[str, str]], most: int) -> list[dict[str, str]]:
    unique = list({r["text"]: r for r in records}.values())
    step = max(1, -(-len(unique) // most))
    return unique[::step][:most]


def fits(text: str, corpus: str) -> bool:
    low, high = LENGTH[corpus]
    return low <= len(text) <= high and text.isascii()


def docstrings(package: str) -> list[dict[str, str]]:
    found = []
    for name, _, node in definitions(package):
        text = textwrap.dedent(ast.get_docstring(node) or "")  # type: ignore[arg-type]
        if fits(text, "docstrings"):
            found.append(dict(package=package, name=name, text=text))
    return thinned(found, DOCSTRINGS)


def sources() -> list[dict[str, str]]:
    found = []
    for name, text, node in definitions("stdlib"):
        source = ast.get_source_segment(text, node) or ""
        if isinstance(node, ast.FunctionDef) and fits(source, "sources"):
            found.append(dict(package="stdlib", name=name, text=source))
    return thinned(found, SOURCES)


def notices() -> str:
    """What the licenses ask to be kept: their texts, with the copyright lines."""
    home = Path(sysconfig.get_paths()["purelib"])
    parts = []
    for module, package in PACKAGES.items():
        info = next(home.glob(f"{package.replace('-', '_')}-{version(package)}*.dist-info"))
        candidates = [info / n for n in ("LICENSE.txt", "licenses/LICENSE.txt", "licenses/LICENSE", "licenses/COPYING")]
        text = next(p for p in candidates if p.exists()).read_text("utf8")
        text = text.split("\n----")[0].split("\nThis binary distribution")[0].split("\nThe NumPy repository and source")[0]
        parts.append(f"==== {module} {version(package)} ({LICENSES[module]})\n\n{text.strip()[:8000]}")
    python = (Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt").read_text("utf8")
    start = python.index("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2")
    parts.append(
        f"==== stdlib {sysconfig.get_python_version()} (PSF-2.0)\n\n{python[start : python.index('BEOPEN.COM LICENSE')].strip()}"
    )
    return "\n\n\n".join(parts) + "\n"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    collected = {r["text"]: r for p in (*PACKAGES, "stdlib") for r in docstrings(p)}
    corpora = {"docstrings": list(collected.values()), "sources": sources()}
    for corpus, records in corpora.items():
        data = ("\n".join(json.dumps(r, ensure_ascii=True) for r in records) + "\n").encode()
        (OUT / f"{corpus}.jsonl").write_bytes(data)
        print(corpus, len(records), "records,", len(data), "bytes,", hashlib.sha256(data).hexdigest())
    (OUT / "LICENSES.txt").write_text(notices(), "utf8")


if __name__ == "__main__":
    main()
