"""The site of throw-away copies: what a page holds, and what stops a build."""

import json
import re

import pytest
from throwaway import Copy, chapter

pytestmark = pytest.mark.slow

CELLS = (
    "from kernelbook.evidence.claims import claim\nfrom kernelbook.pages.listing import listing",
    "#text See {chapter}`width/depth` and {paper}`ntk` on $x^2$.",
    'claim("ntk/x", "One is less than two.", measured=1.0, below=2, kind="limit")',
    "from kernelbook.pages.figures import figure\nlisting(figure)",
)


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def page(copy, name="width/tangent"):
    return (copy.root / "out/site/book" / f"{name}.html").read_text()


def test_a_page_carries_what_its_run_gave(copy):
    copy.write("width/tangent", chapter(*CELLS))
    assert copy.run_chapters().returncode == 0
    built = copy.build()
    assert built.returncode == 0, built.stdout
    assert "Ledger: 1 claims (1 holds) and 143 papers." in built.stdout
    text = page(copy)
    assert 'id="claim-ntk-x"' in text and "min to read" in text and "Jacot" in text
    assert re.search(r'class="kb-unwritten">Infinitely wide and deep<', text)
    assert "kernelbook.pages.figures.figure" in text and "constrained" in text
    assert 'href="../../_sources/book/width/tangent.ipynb"' in text
    downloaded = json.loads((copy.root / "out/site/_sources/book/width/tangent.ipynb").read_text())
    assert any(o for c in downloaded["cells"] for o in c.get("outputs", []))
    ledger_page = page(copy, "ledger")
    assert ledger_page.count('class="kb-paper"') == 143 and "#claim-ntk-x" in ledger_page
    ledger = json.loads((copy.root / "out/ledger.json").read_text())
    assert set(ledger) >= {"papers", "claims"} and len(ledger["papers"]) == 143
    keys = {"id", "paper", "statement", "kind", "measured", "bound", "verdict", "seed", "chapter"}
    assert keys <= set(ledger["claims"][0]) and ledger["claims"][0]["chapter"] == "width/tangent"
    again = copy.build()
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize(
    ("prose", "message"),
    [
        ("![far](https://example.org/a.png)", "https://example.org/a.png"),
        ('<img src="https://example.org/a.png" alt="">', "loads https://example.org/a.png from another host"),
        ("![near](gone.png)", "gone.png"),
        ('<img src="gone.png" alt="">', "gone.png does not exist"),
        ("[a page](gone.md)", "gone.md"),
        ("{chapter}`width/nothing`", "no chapter 'width/nothing'"),
        ("{paper}`nobody`", "no paper 'nobody'"),
        ("{numref}`fig-gone`", "fig-gone"),
    ],
)
def test_a_page_with_a_bad_target_stops_the_build_and_is_named(copy, prose, message):
    copy.write("width/tangent", chapter("print(1)"))
    copy.run_chapters()
    assert copy.build().returncode == 0
    good = page(copy)
    copy.write("width/tangent", chapter("print(1)", "#text " + prose))
    assert copy.run_chapters().returncode == 0
    built = copy.build()
    assert built.returncode == 1 and message in built.stdout and "width/tangent" in built.stdout
    assert page(copy) == good


def test_a_warning_printed_on_a_page_stops_the_build(copy):
    copy.write("width/tangent", chapter("import warnings\nwarnings.warn('careful')"))
    copy.run_chapters()
    assert copy.build().returncode == 1


def test_the_appendix_is_written_by_the_build(copy):
    absent = 'claim("ntk/absent", "Two is less than one, at width $n$.", measured=2.0, below=1, kind="limit", holds=False,'
    absent += ' because="It isn\'t so in arithmetic.")'
    copy.write("width/tangent", chapter(CELLS[0], CELLS[2], absent))
    directives = ("{chapter-map}", "{paper-index}", "{verdicts}", "{run-times}", "{library-reference} evidence")
    (copy.root / "book/all.md").write_text("# All\n\n" + "\n".join(f"```{d}\n```\n" for d in directives))
    copy.write("ledger", "# The ledger\n\n```{ledger}\n```\n")
    assert copy.run_chapters().returncode == 0
    built = copy.build()
    assert built.returncode == 0, built.stdout
    text = page(copy, "all")
    chapters = re.search(r'<div class="kb-map">.*?</div>', text, re.S)[0]
    assert chapters.count("<li>") == 73 and chapters.count("<a href") == 1 and "needs nothing" in chapters
    assert text.count("https://arxiv.org/abs/") == 143
    assert "Of 2 claims in this build, 1 hold" in text
    assert "It isn&#x27;t so in arithmetic." in text and "\\(n\\)" in text and "#claim-ntk-absent" in text
    assert re.search(r'data-label="core-seconds">\d', text)
    assert "fitted_exponent(x, y)" in text and "Least-squares slope" in text
