"""Everything that is checked, in one place: `check.py all` (make test), `check.py fast` (make check), `check.py format`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = str(Path(sys.executable))
REPORTS = ROOT / "out" / "reports"
CODE = ["lib", "tests", "tools"]


def run(*command: str) -> int:
    return subprocess.run([PYTHON, *command], cwd=ROOT, env={**os.environ, "PYTHONUTF8": "1"}).returncode


def step(name: str, *command: str) -> tuple[int, int, int]:
    """One command as one check: (passed, failed, skipped)."""
    print(f"== {name}", flush=True)
    code = run(*command)
    return (int(code == 0), int(code != 0), 0)


def tests(name: str, *command: str) -> tuple[int, int, int]:
    """A pytest run, counted test by test from its report; a run that broke off counts as one failure more."""
    print(f"== {name}", flush=True)
    report = REPORTS / f"{name.replace(' ', '-')}.xml"
    REPORTS.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    code = run("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", f"--junitxml={report}", *command)
    if not report.exists():
        return (0, 1, 0)
    suite = next(ET.parse(report).iter("testsuite")).attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    passed = int(suite["tests"]) - failed - skipped
    return (passed, max(failed, int(code != 0)), skipped)


def form() -> int:
    """Chapters in the one form that Jupytext writes.  Returns how many were changed."""
    from kernelbook.evidence import execution, house
    from kernelbook.pages.source_form import canonical

    changed = [p for p in execution.notebooks() if house.write_whole(p, canonical(p.read_text("utf8")))]
    print("\n".join(f"{p.relative_to(ROOT)}: put into form" for p in changed) or "chapters are in form")
    return len(changed)


def lint() -> list[tuple[int, int, int]]:
    return [
        step("format", "-m", "ruff", "format", "--check", "--quiet", *CODE),
        step("lint", "-m", "ruff", "check", "--quiet", *CODE),
        step("types", "-m", "mypy", "--no-error-summary"),
    ]


def close(results: list[tuple[int, int, int]], started: float) -> int:
    passed, failed, skipped = (sum(r[i] for r in results) for i in range(3))
    print(f"\n{time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    return int(failed > 0)


def main(what: str) -> int:
    started = time.monotonic()
    if what == "format":
        form()
        return run("-m", "ruff", "check", "--fix", "--quiet", *CODE) or run("-m", "ruff", "format", "--quiet", *CODE)
    results = lint()
    if what == "fast":
        return close([*results, tests("fast tests", "-m", "not slow and not executed", "tests")], started)
    results.append(tests("chapters", "--nbmake", "book"))
    results.append(step("site", "-m", "kernelbook.pages.build"))
    results.append(tests("tests", "tests"))
    return close(results, started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
