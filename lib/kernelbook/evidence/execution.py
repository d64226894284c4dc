"""Running chapters: each once, in a kernel of its own, with a stamp that knows everything the outputs depend on.

`out/executed/<path>.ipynb` is the executed notebook, `out/executed/<path>.json` its stamp: the code cells, every project
file the run imported or opened, the packages it imported, Python, seed, scale and device.  A run under another seed or
scale has a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from kernelbook.evidence import house
from kernelbook.evidence.source import code_hash

LIMIT_S = 300
NEVER_RUN = {"skip-execution"}
SKIPPED_FOLDERS = {".ipynb_checkpoints", "out", ".venv"}

# Runs inside the kernel before the first cell: notes every project file that the chapter opens.
TRACE = """
def _start():
    import os, sys
    roots, seen = tuple(p + os.sep for p in {roots!r}), set()
    def opened(event, args):
        if event == "open" and args and isinstance(args[0], (str, os.PathLike)):
            path = os.path.abspath(os.fspath(args[0]))
            if path.startswith(roots) and not (isinstance(args[1], str) and set(args[1]) & set("wxa")):
                seen.add(path)
    sys.addaudithook(opened)
    sys._kernelbook_opened = seen
_start(); del _start
"""
# Runs after the last cell, and after a failed one.
REPORT = """
def _report():
    import json, os, sys, time
    roots = tuple(p + os.sep for p in {roots!r})
    modules = [m for m in list(sys.modules.values()) if getattr(m, "__name__", None)]
    files = set(sys._kernelbook_opened)
    files |= {{os.path.abspath(m.__file__) for m in modules if getattr(m, "__file__", None)}}
    usage = sum(os.times()[:4])
    torch = sys.modules.get("torch")
    device = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
    report = dict(files=sorted(p for p in files if p.startswith(roots) and os.path.isfile(p)), cpu=usage, device=device,
                  packages=sorted({{m.__name__.partition(".")[0] for m in modules}}))
    with open({to!r}, "w") as f:
        json.dump(report, f)
_report(); del _report
"""


@dataclass(frozen=True)
class Settings:
    """Under which seed and scale chapters run, and what else their kernels find in the environment."""

    seed: int = 0
    scale: str = "quick"
    extra: tuple[tuple[str, str], ...] = ()
    survey: bool = False
    smoke: bool = False

    @property
    def folder(self) -> Path:
        """Where results go; a survey's runs print no frames, so they have a folder of their own."""
        if self.smoke:
            return house.root() / "out" / "smoke"
        if self.survey:
            return house.root() / "out" / "survey" / f"{self.scale}-seed-{self.seed}"
        return house.out(self.seed, self.scale) / "executed"

    def environment(self) -> dict[str, str]:
        quiet = dict(PYDEVD_DISABLE_FILE_VALIDATION="1", JUPYTER_PLATFORM_DIRS="1", PYTHONWARNINGS="default")
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        ours = dict(KERNELBOOK_SEED=str(self.seed), KERNELBOOK_SCALE=self.scale, KERNELBOOK_STATIC="1")
        ours |= {"KERNELBOOK_SURVEY": "1"} if self.survey or self.smoke else {}
        ours |= {"KERNELBOOK_SMOKE": "1"} if self.smoke else {}
        return {**os.environ, **quiet, **threads, **ours, **dict(self.extra)}


def settings_from_environment() -> Settings:
    """The settings that `KERNELBOOK_SEED` and `KERNELBOOK_SCALE` ask for."""
    return Settings(house.seed_from_environment(), house.scale_from_environment())


class ChapterFailed(Exception):
    """A chapter that did not run to its end: where, why, and the lines about it."""

    def __init__(self, chapter: str, line: int, summary: str, listing: str = "", trace: str = "", cell: int = 0):
        super().__init__(f"{chapter}:{line}: {summary}")
        self.place, self.summary = f"{chapter}:{line}", summary
        self.listing, self.trace, self.cell = listing, trace, cell

    def __reduce__(self) -> Any:
        chapter, line = self.place.rsplit(":", 1)
        return ChapterFailed, (chapter, int(line), self.summary, self.listing, self.trace, self.cell)


@dataclass
class Chapter:
    """A MyST notebook as read from disk: cells with steady ids, and the source line where each cell's text begins."""

    path: Path
    notebook: Any
    starts: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Path below the book's folder without its ending, such as `width/tangent`."""
        return self.path.relative_to(house.book()).with_suffix("").as_posix()

    @property
    def place(self) -> str:
        return self.path.relative_to(house.root()).as_posix()

    @property
    def code(self) -> list[tuple[int, Any]]:
        return [(i, c) for i, c in enumerate(self.notebook.cells) if c.cell_type == "code"]

    @property
    def front(self) -> dict[str, Any]:
        """The `kernelbook:` block of the front matter."""
        return dict(self.notebook.metadata.get("kernelbook") or {})

    def executes(self, cell: Any) -> bool:
        return cell.cell_type == "code" and bool(cell.source.strip()) and not NEVER_RUN & tags(cell)


def tags(cell: Any) -> set[str]:
    """The tags of a notebook cell."""
    return set(cell.metadata.get("tags", []))


def is_notebook(path: Path) -> bool:
    """Whether a file is a MyST Markdown notebook."""
    from myst_nb.core.read import is_myst_markdown_notebook

    return path.suffix == ".md" and is_myst_markdown_notebook(path.read_text("utf8"))


def notebooks(below: Path | None = None) -> list[Path]:
    """All MyST notebooks of the book, solutions included, in alphabetical order."""
    paths = sorted((below or house.book()).rglob("*.md"))
    return [p for p in paths if not SKIPPED_FOLDERS & set(p.parts) and is_notebook(p)]


def find(name: str) -> Path:
    """The file of chapter `width/tangent`.  Raises ValueError with the chapters there are."""
    path = house.book() / f"{name.removesuffix('.md').removeprefix('book/')}.md"
    if not path.exists():
        known = ", ".join(read(p).name for p in notebooks() if p.parent.name != "solutions")
        raise ValueError(f"C={name!r}: no such chapter; there are {known}")
    return path


def read(path: Path) -> Chapter:
    """Read a MyST notebook.  Raises ChapterFailed where its front matter or a cell's options cannot be parsed."""
    from myst_nb.core import read as myst

    # while Sphinx runs, its own reading attaches outputs (pages.sphinx); ours reads the source alone
    reader = getattr(myst.read_myst_markdown_notebook, "original", myst.read_myst_markdown_notebook)
    text, lines = path.read_text("utf8"), path.read_text("utf8").splitlines()
    try:
        notebook = reader(text, add_source_map=True, path=str(path))
    except Exception as error:
        line = int(m[1]) if (m := re.search(r":(\d+)", str(error))) else 1
        raise ChapterFailed(path.relative_to(house.root()).as_posix(), line, f"not a notebook: {error}") from error
    starts = list(notebook.metadata.pop("source_map"))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{i:03d}"
        body = cell.source.splitlines()
        while cell.cell_type == "code" and body and starts[i] < len(lines) and lines[starts[i] : starts[i] + len(body)] != body:
            starts[i] += 1
    return Chapter(path.resolve(), notebook, [s + 1 for s in starts])


# ---------------------------------------------------------------- stamps


@cache
def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


@cache
def _distributions() -> dict[str, list[str]]:
    from importlib.metadata import packages_distributions

    return {k: list(v) for k, v in packages_distributions().items()}


@cache
def _hash_at(path: Path, size: int, changed: int) -> str:
    if path.suffix == ".py":
        return code_hash(path.read_text("utf8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


def file_hash(path: Path) -> str:
    """A hash of what a file means to a run: Python without docstrings and comments, anything else byte for byte."""
    s = path.stat()
    return _hash_at(path, s.st_size, s.st_mtime_ns)


@cache
def device_kind() -> str:
    """`cuda` or `cpu`, told without importing torch where there is no driver."""
    import ctypes.util

    if os.environ.get("KERNELBOOK_DEVICE"):
        return os.environ["KERNELBOOK_DEVICE"]
    if not (Path("/dev/nvidiactl").exists() or ctypes.util.find_library("cuda")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def code_key(chapter: Chapter) -> str:
    """A hash of the cells that run, in their order."""
    cells = [c.source for _, c in chapter.code if chapter.executes(c)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:20]


def _short(path: str) -> str:
    """A path as a stamp keeps it: below the checkout where it can be, so that a moved checkout stays current."""
    for base, prefix in ((house.root(), ""), (house.PACKAGE.parent, "lib:")):
        if Path(path).is_relative_to(base):
            return prefix + Path(path).relative_to(base).as_posix()
    return path


def _long(short: str) -> Path:
    return house.PACKAGE.parent / short.removeprefix("lib:") if short.startswith("lib:") else house.root() / short


def results(chapter: Path, settings: Settings) -> tuple[Path, Path]:
    """Where a chapter's executed notebook and its stamp stand."""
    rel = chapter.resolve().relative_to(house.book())
    return settings.folder / rel.with_suffix(".ipynb"), settings.folder / rel.with_suffix(".json")


def stamp_of(chapter: Path, settings: Settings) -> dict[str, Any] | None:
    """The stamp of a chapter's last complete run; None where there is none that can be read."""
    try:
        return dict(json.loads(results(chapter, settings)[1].read_text("utf8")))
    except (OSError, ValueError):
        return None


def why_stale(chapter: Chapter, settings: Settings) -> str | None:
    """Why a chapter's outputs are not current, in a few words; None if they are."""
    notebook, stamp = results(chapter.path, settings)[0], stamp_of(chapter.path, settings)
    if stamp is None or not notebook.exists():
        return "it has not been run"
    if stamp.get("outputs") != hashlib.sha256(notebook.read_bytes()).hexdigest()[:20]:
        return f"{notebook.name} was changed by something else than a run"
    if stamp["code"] != code_key(chapter):
        return "a code cell changed"
    if stamp["device"] != device_kind():
        return f"it ran on {stamp['device']}, this machine has {device_kind()}"
    if stamp["python"] != platform.python_version():
        return f"it ran with Python {stamp['python']}"
    for package, version in stamp["packages"].items():
        if _installed(package) != version:
            return f"{package} is {_installed(package) or 'gone'}, it ran with {version}"
    for name, known in stamp["files"].items():
        if not _long(name).exists() or file_hash(_long(name)) != known:
            return f"{name.removeprefix('lib:')} changed"
    return None


def _installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError

    try:
        return _version(package)
    except PackageNotFoundError:
        return None


# ---------------------------------------------------------------- one run


def _trace_roots() -> list[str]:
    return [str(house.root()), str(house.PACKAGE)]


def _of_the_project(path: str) -> bool:
    return not (path.endswith(".pyc") or SKIPPED_FOLDERS & set(Path(path).parts[:-1]) - set(house.root().parts))


def plain(trace: str) -> str:
    """A traceback without its colors."""
    return re.sub(r"\x1b\[[0-9;]*m", "", trace)


def _listing(source: str, start: int, at: int) -> str:
    return "\n".join(f"{'>' if n == at else ' '} {n:4d} | {t}" for n, t in enumerate(source.splitlines(), start))


def _failure(chapter: Chapter, i: int, summary: str, trace: str = "") -> ChapterFailed:
    within = re.search(r"Cell In\s?\[\d+\], line (\d+)", plain(trace))
    line = chapter.starts[i] + (int(within[1]) - 1 if within else 0)
    listing = _listing(chapter.notebook.cells[i].source, chapter.starts[i], line)
    return ChapterFailed(chapter.place, line, summary, listing, trace, i)


@contextmanager
def _kernel(chapter: Chapter, settings: Settings, limit: float, at: dict[str, int]) -> Iterator[Any]:
    """A notebook client whose kernel is up and traced; its errors leave as ChapterFailed."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbclient.util import run_sync

    end = time.monotonic() + limit
    client = NotebookClient(
        chapter.notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(chapter.path.parent)}},
        record_timing=False,
        store_widget_state=False,
        allow_errors=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # what the kernel says of its transport is not the chapter's
        timeout_func=lambda cell: max(1, int(end - time.monotonic())),
    )
    with tempfile.TemporaryDirectory(prefix="kernelbook-ipython-") as profile:
        try:
            with client.setup_kernel(env={**settings.environment(), "IPYTHONDIR": profile}):
                silently = partial(run_sync(client.kc.execute_interactive), silent=True, timeout=60)  # type: ignore[union-attr]
                silently(TRACE.format(roots=_trace_roots()))
                yield client, silently
        except CellExecutionError:
            cell = chapter.notebook.cells[at["cell"]]
            error = next(o for o in reversed(cell.outputs) if o.output_type == "error")
            summary = f"{error.ename}: {error.evalue}"
            raise _failure(chapter, at["cell"], summary, "\n".join(error.traceback)) from None
        except CellTimeoutError:
            message = f"the chapter took more than {limit:g} s; it was in this cell"
            raise _failure(chapter, at["cell"], message) from None
        except DeadKernelError:
            message = "the kernel died in this cell (out of memory, or a crash in compiled code)"
            raise _failure(chapter, at["cell"], message) from None


def _run_cells(chapter: Chapter, settings: Settings, limit: float) -> dict[str, Any]:
    """Execute the cells that run; what the kernel reports of files, packages and time."""
    at, count = {"cell": 0}, 0
    with tempfile.TemporaryDirectory(prefix="kernelbook-run-") as folder:
        to = Path(folder) / "report.json"
        with _kernel(chapter, settings, limit, at) as (client, silently):
            for i, cell in chapter.code:
                if chapter.executes(cell):
                    at["cell"], count = i, count + 1
                    client.execute_cell(cell, i, execution_count=count)
            silently(REPORT.format(roots=_trace_roots(), to=str(to)))
        return dict(json.loads(to.read_text("utf8")))


def _stamp(chapter: Chapter, settings: Settings, report: dict[str, Any], wall: float) -> dict[str, Any]:
    files = {_short(p): file_hash(Path(p)) for p in report["files"] if _of_the_project(p)}
    names = {d for top in report["packages"] for d in _distributions().get(top, []) if d.lower() != "kernelbook"}
    return dict(
        code=code_key(chapter),
        seed=settings.seed,
        scale=settings.scale,
        device=report["device"],
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        seconds=round(wall, 2),
        core_seconds=round(report["cpu"], 2),
        files=files,
        packages={p: _version(p) for p in sorted(names)},
    )


def _keep(chapter: Chapter, settings: Settings, stamp: dict[str, Any]) -> None:
    import nbformat

    for cell in chapter.notebook.cells:
        cell.metadata.pop("execution", None)
    chapter.notebook.metadata.setdefault("language_info", {"name": "python"})
    nbformat.validate(chapter.notebook)
    to, stamp_to = results(chapter.path, settings)
    text = nbformat.writes(chapter.notebook) + "\n"
    stamp["outputs"] = hashlib.sha256(text.encode()).hexdigest()[:20]
    # the stamp goes last: without it, or with one that does not fit, the outputs count as stale
    house.write_whole(to, text)
    house.write_json(stamp_to, stamp)


def attach(chapter: Chapter, settings: Settings) -> None:
    """Give the chapter's code cells the outputs of its last run, cell by cell; a cell that ran with other code gets none."""
    import nbformat

    done = nbformat.read(results(chapter.path, settings)[0], 4)
    ran = [c for c in done.cells if c.cell_type == "code" and chapter.executes(c)]
    cells = [c for _, c in chapter.code if chapter.executes(c)]
    for cell, old in zip(cells, ran, strict=False):
        if cell.source == old.source:
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
    chapter.notebook.metadata["language_info"] = done.metadata.get("language_info", {"name": "python"})


def bring_up_to_date(path: Path, settings: Settings, limit: float = LIMIT_S, force: bool = False) -> str:
    """Execute a chapter if its outputs are not current.  Returns 'current', 'text' (only prose changed) or 'executed'.

    Raises ChapterFailed; earlier outputs then stay as they were.
    """
    chapter = read(path)
    if chapter.notebook.metadata.get("execution", {}).get("allow_errors"):
        raise ChapterFailed(chapter.place, 1, "allow_errors is banned: a chapter that fails must be seen to fail")
    if not force and why_stale(chapter, settings) is None:
        stamp = stamp_of(path, settings) or {}
        before = results(path, settings)[0].read_bytes()
        attach(chapter, settings)
        _keep(chapter, settings, stamp)
        return "current" if results(path, settings)[0].read_bytes() == before else "text"
    start = time.monotonic()
    if any(chapter.executes(c) for _, c in chapter.code):
        report = _run_cells(chapter, settings, limit)
    else:  # a page of solutions: nothing in it runs, so no kernel is started
        report = dict(files=[], packages=[], cpu=0.0, device=device_kind())
    _keep(chapter, settings, _stamp(chapter, settings, report, time.monotonic() - start))
    return "executed"


def main(arguments: list[str] | None = None, say: Callable[..., None] = print) -> int:
    """`python -m kernelbook.evidence.execution CHAPTER...`: run chapters one after the other, under the environment's seed."""
    settings, bad = settings_from_environment(), 0
    for name in arguments if arguments is not None else sys.argv[1:]:
        try:
            say(bring_up_to_date(find(name), settings, force=True), name)
        except ChapterFailed as failure:
            bad += 1
            say(f"{failure.place}: {failure.summary}\n\n{failure.listing}\n\n{failure.trace}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
