"""The pipeline on throw-away copies: what runs again and what does not, and how each way to fail is reported."""

import json
import re

import nbformat
import pytest
from throwaway import Copy, chapter

pytestmark = pytest.mark.slow

CLAIM = (
    'from kernelbook.evidence.claims import claim\nclaim("ntk/x", "One is less than two.", measured={}, below=2, kind="limit")'
)


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def executed(copy, name="width/tangent"):
    return copy.root / "out" / "executed" / f"{name}.ipynb"


def test_a_chapter_runs_once_and_again_only_when_its_code_changes(copy):
    path = copy.write("width/tangent", chapter("print(1 + 1)"))
    first = copy.run_chapters()
    assert first.returncode == 0 and "1 executed" in first.stdout
    outputs = executed(copy).read_bytes()
    assert "1 current" in copy.run_chapters().stdout
    path.write_text(path.read_text() + "\nMore words.\n")
    assert "1 text" in copy.run_chapters().stdout
    assert b"More words" in executed(copy).read_bytes()
    path.write_text(path.read_text().replace("1 + 1", "1 + 2"))
    assert "1 executed" in copy.run_chapters().stdout
    assert executed(copy).read_bytes() != outputs


def test_two_forced_runs_give_the_same_bytes(copy):
    plot = "from kernelbook.pages.figures import figure\nfig, ax = figure()\nax.plot([1, 2]);"
    copy.write("width/tangent", chapter("print(1)", plot))
    copy.run_chapters()
    before = executed(copy).read_bytes()
    assert "1 executed" in copy.run_chapters("--fresh").stdout
    assert executed(copy).read_bytes() == before


def test_a_library_file_reruns_just_its_importers_and_a_docstring_nothing(tmp_path):
    copy = Copy(tmp_path, library=True)
    copy.write("width/tangent", chapter("import kernelbook.evidence.stats as s\nprint(s.mean_interval([1, 2, 3]))"))
    copy.write("width/depth", chapter("print('imports nothing of ours')", title="Infinitely wide and deep"))
    assert "2 executed" in copy.run_chapters().stdout
    stats = copy.root / "lib/kernelbook/evidence/stats.py"
    text = stats.read_text()
    stats.write_text(
        text.replace('"""Intervals, exponents', '"""More about intervals, exponents').replace(
            "def mean_interval", "# why\ndef mean_interval"
        )
    )
    assert stats.read_text() != text
    assert "2 current" in copy.run_chapters().stdout
    stats.write_text(text.replace("(1 + level) / 2", "(1.0 + level) / 2", 1))
    report = copy.run_chapters("-rA").stdout
    assert "1 executed, 1 current" in report
    stale = copy.build()
    assert stale.returncode == 0, stale.stdout


def test_a_data_file_that_a_chapter_opens_is_a_dependency(copy):
    data = copy.root / "book" / "data" / "numbers.json"
    data.parent.mkdir()
    data.write_text("[1]")
    copy.write("width/tangent", chapter("print(open('../data/numbers.json').read())"))
    copy.run_chapters()
    assert "book/data/numbers.json" in json.loads(executed(copy).with_suffix(".json").read_text())["files"]
    data.write_text("[2]")
    assert "1 executed" in copy.run_chapters().stdout


def test_another_seed_writes_beside_the_sites_outputs(copy):
    copy.write("width/tangent", chapter("from kernelbook.evidence import run\nprint(run.seeds(1))"))
    copy.run_chapters()
    site = executed(copy).read_bytes()
    copy.run_chapters(KERNELBOOK_SEED="5")
    other = copy.root / "out/runs/quick-seed-5/executed/width/tangent.ipynb"
    assert executed(copy).read_bytes() == site
    assert nbformat.read(other, 4).cells[1].outputs != nbformat.read(executed(copy), 4).cells[1].outputs


@pytest.mark.parametrize(
    ("cells", "line", "message"),
    [
        (["x = 1", "y = 2\nz = x / 0"], 26, "ZeroDivisionError: division by zero"),
        (["x = 1", "def f(:\n    pass"], 25, "SyntaxError"),
        (
            ["x = 1", CLAIM.format(3)],
            26,
            "ClaimFailed: claim ntk/x does not hold: One is less than two. (measured 3, bound below 2",
        ),
        (["x = 1", "import time\ntime.sleep(60)"], 25, "took more than 4 s"),
        (["x = 1", "import os\nos._exit(1)"], 25, "the kernel died"),
    ],
    ids=["error", "syntax", "claim", "time-out", "dead kernel"],
)
def test_a_failure_names_chapter_line_and_reason_and_keeps_earlier_outputs(copy, cells, line, message):
    path = copy.write("width/tangent", chapter("print('good')"))
    copy.run_chapters()
    before = executed(copy).read_bytes()
    path.write_text(chapter(*cells))
    # only the slow chapter may be short of time, however busy the machine is
    failed = copy.run_chapters("--nbmake-timeout", "4" if "took more" in message else "120")
    assert failed.returncode == 1
    assert f"book/width/tangent.md:{line}: " in failed.stdout
    assert re.search(rf"tangent\.md:{line}: .*{re.escape(message)}", failed.stdout)
    assert f">   {line} |" in failed.stdout.replace("  >", ">")
    assert executed(copy).read_bytes() == before
    built = copy.build()
    assert built.returncode == 1 and "book/width/tangent.md: outputs are not current (a code cell changed)" in built.stdout


def test_other_chapters_run_on_when_one_fails(copy):
    copy.write("width/tangent", chapter("1 / 0"))
    copy.write("width/depth", chapter("print(1)", title="Infinitely wide and deep"))
    failed = copy.run_chapters()
    assert "1 failed, 1 passed" in failed.stdout and executed(copy, "width/depth").exists()


def test_corrupt_outputs_count_as_stale(copy):
    copy.write("width/tangent", chapter("print(1)"))
    copy.run_chapters()
    executed(copy).write_text("{}")
    refused = copy.build()
    assert refused.returncode == 1 and "changed by something else than a run" in refused.stdout
    assert "1 executed" in copy.run_chapters().stdout
    executed(copy).with_suffix(".json").write_text("not json")
    assert "1 executed" in copy.run_chapters().stdout


def test_a_file_that_is_no_notebook_is_named(copy):
    path = copy.write("width/tangent", chapter("print(1)"))
    path.write_text(path.read_text().replace("```{code-cell} ipython3\n", "```{code-cell} ipython3\n---\na: [\n---\n"))
    failed = copy.run_chapters()
    assert failed.returncode != 0 and "book/width/tangent.md:" in failed.stdout and "not a notebook" in failed.stdout


def test_cells_tagged_skip_execution_are_left_alone(copy):
    copy.write("width/tangent", chapter("x = 1", ":tags: [exercise, skip-execution]\n\nraise ValueError('ran')"))
    assert copy.run_chapters().returncode == 0


def test_two_builds_at_once_are_refused_in_a_sentence(copy):
    from filelock import FileLock

    copy.write("width/tangent", chapter("print(1)"))
    (copy.root / "out").mkdir()
    with FileLock(copy.root / "out" / ".lock"):
        for refused in (copy.run_chapters(), copy.build()):
            assert refused.returncode == 2 and "Another build is running in this checkout" in refused.stdout
