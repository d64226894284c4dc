"""What the executed chapters hold: needs `make book` (or the chapters' half of `make test`) first."""

import json

import pytest
from kernelbook.evidence import claims, execution, house, ledger, survey

pytestmark = pytest.mark.executed
CHAPTERS = [p for p in execution.notebooks() if p.parent.name != "solutions"]
SETTINGS = execution.Settings()
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.relative_to(house.book()).with_suffix("").as_posix())


def outputs(path):
    cells = json.loads(execution.results(path, SETTINGS)[0].read_text())["cells"]
    return [(c, o) for c in cells for o in c.get("outputs", [])]


@each_chapter
def test_outputs_are_current(path):
    assert execution.why_stale(execution.read(path), SETTINGS) is None


@each_chapter
def test_nothing_was_printed_as_an_error_or_warning(path):
    assert not [o for _, o in outputs(path) if o.get("name") == "stderr" or o["output_type"] == "error"]


@each_chapter
def test_every_picture_has_alt_text(path):
    for cell, output in outputs(path):
        if any(mime.startswith("image/") for mime in output.get("data", {})):
            assert cell["metadata"].get("mystnb", {}).get("image", {}).get("alt"), "".join(cell["source"])[:80]


@each_chapter
def test_claims_were_measured_and_explorers_printed(path):
    made = ledger.chapter_claims(path, SETTINGS)
    assert len(made) >= 2 and all(c["verdict"] != claims.FAILS for c in made)
    assert any("kb-explore" in "".join(o.get("data", {}).get("text/html", "")) for _, o in outputs(path))


@each_chapter
def test_claims_were_surveyed_and_keep_their_margins(path):
    rows = ledger.survey_of(execution.read(path).name)
    made = ledger.chapter_claims(path, SETTINGS)
    missing = {c["id"] for c in made} - set(rows)
    assert not missing, "run `make survey`"
    wrong = []
    for c in made:
        row = rows[c["id"]]
        assert row["runs"] >= survey.LEAST_SEEDS, c["id"]
        assert row["bound"] == c["bound"] and row["kind"] == c["kind"], f"{c['id']} changed since its survey: run `make survey`"
        wrong += survey.defects(row, c["id"])
    assert not wrong


def test_the_ledger_has_every_paper_and_claim():
    made = ledger.build(SETTINGS)
    assert len(made["papers"]) == 143
    measured = {p["key"] for p in made["papers"] if p["status"] == "measured"}
    written = {execution.read(p).name for p in CHAPTERS}
    assert measured == {p["key"] for p in made["papers"] if p["chapter"] in written}
