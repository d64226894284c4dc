"""The ledger: every paper, every claim, gathered from executed notebooks and their stamps alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kernelbook.evidence import claims, execution, house

PAPER_FIELDS = ("key", "authors", "title", "year", "venue", "arxiv", "doi", "code", "chapter")


def papers() -> list[dict[str, Any]]:
    """The papers of `book/papers.yml`, in the book's order.  Raises ValueError where an entry lacks a field."""
    import yaml

    entries = yaml.load((house.book() / "papers.yml").read_text("utf8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for entry in entries:
        if missing := [f for f in PAPER_FIELDS if f not in entry]:
            raise ValueError(f"book/papers.yml: paper {entry.get('key')!r} has no {', '.join(missing)}")
    return list(entries)


def outline() -> list[dict[str, Any]]:
    """The parts of `book/outline.yml`, each with its chapters' names and titles, written or not."""
    import yaml

    return list(yaml.safe_load((house.book() / "outline.yml").read_text("utf8")))


def short_citation(paper: dict[str, Any]) -> str:
    """`Jacot et al. (2018)`."""
    names = [a.split()[-1] for a in paper["authors"]]
    who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
    return f"{who} ({paper['year']})"


def outputs_of(notebook: Path, mime: str) -> list[dict[str, Any]]:
    """All outputs of one MIME type in an executed notebook."""
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    found = [o.get("data", {}).get(mime) for c in cells for o in c.get("outputs", [])]
    return [x for x in found if x]


def survey_of(chapter: str) -> dict[str, Any]:
    """The survey rows of a chapter by claim id; empty where it has not been surveyed."""
    path = house.book() / "data" / "survey" / f"{chapter}.json"
    return dict(json.loads(path.read_text("utf8"))["claims"]) if path.exists() else {}


def chapter_claims(path: Path, settings: execution.Settings) -> list[dict[str, Any]]:
    """The claims of one executed chapter, each with the chapter's name, run time and surveyed margin."""
    notebook, _ = execution.results(path, settings)
    stamp = execution.stamp_of(path, settings)
    if stamp is None or not notebook.exists():
        return []
    name = path.relative_to(house.book()).with_suffix("").as_posix()
    survey = survey_of(name)
    extra = dict(chapter=name, core_seconds=stamp["core_seconds"], machine=stamp["machine"])
    rows = [{**c, **extra, "survey": survey.get(c["id"])} for c in outputs_of(notebook, claims.MIME)]
    return [{**r, "margin": (r["survey"] or {}).get("margin")} for r in rows]


def build(settings: execution.Settings | None = None) -> dict[str, Any]:
    """The ledger of a run: `papers` (all of them, measured or missing) and `claims`."""
    settings = settings or execution.settings_from_environment()
    rows = [c for p in execution.notebooks() for c in chapter_claims(p, settings)]
    counts = [c["paper"] for c in rows]
    listed = [
        {**p, "claims": counts.count(p["key"]), "status": "measured" if p["key"] in counts else "missing"} for p in papers()
    ]
    return dict(seed=settings.seed, scale=settings.scale, papers=listed, claims=rows)


def write(settings: execution.Settings | None = None) -> dict[str, Any]:
    """Build the ledger and write it to `out/ledger.json`."""
    settings = settings or execution.settings_from_environment()
    made = build(settings)
    house.write_json(settings.folder.parent / "ledger.json", made)
    return made
