"""`python -m kernelbook.pages.course`: a student edition, a teacher edition and slides, all from the same sources."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from kernelbook.evidence import execution, house
from kernelbook.pages import build, site, slides

LEAST_TRACE = 24  # characters of a line that make it a trace and not a commonplace


def _is_solution(entry: dict[str, Any]) -> bool:
    return "/solutions/" in entry["file"]


def student_contents(contents: dict[str, Any]) -> dict[str, Any]:
    """A table of contents without solutions."""
    parts = [{**p, "chapters": [c for c in p["chapters"] if not _is_solution(c)]} for p in contents["parts"]]
    return {**contents, "parts": [p for p in parts if p["chapters"]]}


def teacher_contents(contents: dict[str, Any]) -> dict[str, Any]:
    """A table of contents in which each chapter's solutions stand right below it."""
    known = {c["file"]: c for p in contents["parts"] for c in p["chapters"] if _is_solution(c)}

    def with_solutions(entry: dict[str, Any]) -> dict[str, Any]:
        folder, _, name = entry["file"].rpartition("/")
        own = known.get(f"{folder}/solutions/{name}")
        return {**entry, "sections": [own]} if own else entry

    parts = student_contents(contents)["parts"]
    return {**contents, "parts": [{**p, "chapters": [with_solutions(c) for c in p["chapters"]]} for p in parts]}


def solution_lines(chapter: Path) -> set[str]:
    """Lines of a solutions page that stand in no other page's source: each would give the solution away."""
    others = [p for p in execution.notebooks() if "solutions" not in p.parts]
    elsewhere = "\n".join(p.read_text("utf8") for p in others)
    text = execution.read(chapter).notebook.cells
    lines = {line.strip() for cell in text for line in cell.source.splitlines()}
    return {line for line in lines if len(line) >= LEAST_TRACE and line not in elsewhere and not line.startswith((":", "`", "{"))}


def traces(folder: Path) -> list[str]:
    """Places below a built edition where a line of a solution can be read."""
    pages = [p for p in execution.notebooks() if "solutions" in p.parts]
    lines = {line: p for p in pages for line in solution_lines(p)}
    found = [f"{p.relative_to(folder)}: a page of solutions" for p in folder.rglob("*solutions*")]
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".js", ".ipynb", ".md", ".txt", ".json") and "mathjax" not in path.parts:
            text = path.read_text("utf8", "replace")
            plain = (
                text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("&#39;", "'").replace("&quot;", '"')
            )
            found += [f"{path.relative_to(folder)}: {line}" for line in lines if line in plain]
    return found


def _edition(name: str, contents: dict[str, Any], to: Path, work: Path) -> bool:
    import yaml

    table = work / f"toc-{name}.yml"
    house.write_whole(table, yaml.safe_dump(contents, sort_keys=False))
    pages = work / name / "html"
    if not build.pages(pages, work / name / "doctrees", table):
        return False
    build.front_door(pages)
    found = site.problems(pages) + (traces(pages) if name == "student" else [])
    if found:
        print("\n".join([*found, f"The {name} edition was not published."]), file=sys.stderr)
        return False
    build.replace(pages, to / name)
    return True


def main() -> int:
    """Build the three editions into `out/course/`; the former ones stay where anything fails."""
    import yaml

    folder = execution.settings_from_environment().folder.parent
    published = folder / "site"
    if not published.exists():
        print("There is no site yet: run `make book` first.", file=sys.stderr)
        return 1
    contents = yaml.safe_load((house.root() / "_toc.yml").read_text("utf8"))
    to, work = folder / "course", folder / "build" / "course"
    editions = {"student": student_contents(contents), "teacher": teacher_contents(contents)}
    if not all(_edition(name, toc, to, work) for name, toc in editions.items()):
        return 1
    chapters = [execution.read(p).name for p in execution.notebooks() if "solutions" not in p.parts]
    shutil.rmtree(work / "slides", ignore_errors=True)
    counts = slides.write(published, chapters, work / "slides")
    if found := site.problems(work / "slides"):
        print("\n".join([*found, "The slides were not published."]), file=sys.stderr)
        return 1
    build.replace(work / "slides", to / "slides")
    print(f"Student and teacher editions, and {sum(counts.values())} slides of {len(counts)} chapters:")
    for name in ("student", "teacher", "slides"):
        print(f"  {(to / name / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
