"""`pytest --nbmake book`: nbmake's pytest items for MyST chapters, run once each, two at a time, only when stale.

What nbmake 1.5.5 cannot do and this replaces: read Markdown, keep outputs byte-identical between runs, limit a chapter
instead of a cell, name a dead kernel, and report `book/width/tangent.md:128`.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nbmake import pytest_items
from nbmake.nb_result import NotebookError, NotebookResult

from kernelbook.evidence import execution, house

BUDGET_S = 45.0
LOCKS = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nbmake")
    group.addoption("--fresh", action="store_true", help="execute every chapter, also those whose outputs are current")
    group.addoption("--jobs", type=int, default=2, help="how many chapters run at once (default 2)")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.nbmake:
        return
    # nbmake's own summary is an advertisement
    nbmake = config.pluginmanager.get_plugin("nbmake")
    if nbmake is not None:
        config.hook.pytest_terminal_summary._remove_plugin(nbmake)


def pytest_collect_file(file_path: Path, parent: Any) -> Any:
    inside = house.book() in file_path.resolve().parents and not execution.SKIPPED_FOLDERS & set(file_path.parts)
    if parent.config.option.nbmake and inside and execution.is_notebook(file_path):
        return ChapterFile.from_parent(parent, path=file_path)
    return None


class ChapterFile(pytest_items.NotebookFile):
    """One chapter's file."""

    def collect(self) -> Any:
        yield ChapterItem.from_parent(self, filename=str(self.path))


class ChapterItem(pytest_items.NotebookItem):
    """One chapter, run in the pool; the test waits for it."""

    outcome: Future[str]

    def runtest(self) -> None:
        try:
            self.user_properties.append(("chapter", self.outcome.result()))
        except execution.ChapterFailed as failure:
            error = NotebookError(failure.summary, failure.trace, failure.cell)
            raise pytest_items.NotebookFailedException(NotebookResult(nb=None, error=error)) from failure

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, house.DiskFull):
            return pytest_items.NbMakeFailureRepr(str(excinfo.value), str(excinfo.value))
        failure = excinfo.value.__cause__
        if not isinstance(failure, execution.ChapterFailed):
            return pytest.Item.repr_failure(self, excinfo, style)
        trace = failure.trace if self.config.get_terminal_writer().hasmarkup else execution.plain(failure.trace)
        head = f"{failure.place}: {failure.summary}"
        return pytest_items.NbMakeFailureRepr("\n\n".join(x for x in (head, failure.listing, trace) if x), head)

    def reportinfo(self) -> Any:
        return self.path, None, self.path.relative_to(house.root()).as_posix()


def _longest_first(item: ChapterItem) -> float:
    stamp = execution.stamp_of(item.path, execution.settings_from_environment())
    return -float(stamp["core_seconds"]) if stamp else -float("inf")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start all chapters in a pool of threads (kernels are processes), so that each test only waits for its own."""
    items = [i for i in session.items if isinstance(i, ChapterItem)]
    option = session.config.option
    if not items or option.collectonly:
        return
    from filelock import FileLock, Timeout

    settings = execution.settings_from_environment()
    settings.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.folder.parent / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pytest.exit("Another build is running in this checkout: wait for it to end, or stop it, then try again.", 2)
    session.config.stash[LOCKS] = lock
    pool = ThreadPoolExecutor(option.jobs)
    session.config.add_cleanup(lambda: pool.shutdown(wait=False, cancel_futures=True))
    for item in sorted(items, key=_longest_first):
        item.outcome = pool.submit(execution.bring_up_to_date, item.path, settings, option.nbmake_timeout, option.fresh)


def pytest_unconfigure(config: pytest.Config) -> None:
    if LOCKS in config.stash:
        config.stash[LOCKS].release()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    hows = [v for r in terminalreporter.stats.get("passed", []) for k, v in r.user_properties if k == "chapter"]
    if not hows:
        return
    settings = execution.settings_from_environment()
    stamps = [s for p in execution.notebooks() if (s := execution.stamp_of(p, settings))]
    spent = [s["core_seconds"] for s in stamps if s["core_seconds"]]
    counts = ", ".join(f"{hows.count(h)} {h}" for h in ("executed", "text", "current") if h in hows)
    terminalreporter.write_line(f"chapters: {counts}; {sum(spent):.0f} core-seconds in all, budget {BUDGET_S * len(spent):.0f}")


os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
