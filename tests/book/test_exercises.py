"""Every check cell: the untouched exercise fails it, the solution passes it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernelbook.evidence import execution, house

CHAPTERS = [p for p in execution.notebooks() if p.parent.name != "solutions"]
RUNNER = Path(__file__).with_name("exercises.py")

pytestmark = pytest.mark.slow


def labelled(path, opening):
    """Code cells by the label of the gated block they stand in."""
    found, label = {}, None
    for cell in execution.read(path).notebook.cells:
        if cell.cell_type == "markdown":
            for text, end in re.findall(rf"\{{{opening}-start\}}([^`]*)|(\{{{opening}-end\}})", cell.source):
                label = None if end else re.search(r":label: (\S+)" if opening == "exercise" else r"^ (\S+)", text)[1]
        elif label:
            found.setdefault(label, []).append(cell)
    return found


def with_tag(cells, tag):
    return [c.source for c in cells if tag in execution.tags(c)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.relative_to(house.book()).with_suffix("").as_posix())
def test_untouched_cells_fail_and_solutions_pass(path):
    exercises, solutions = labelled(path, "exercise"), labelled(path.parent / "solutions" / path.name, "solution")
    coded = {label: cells for label, cells in exercises.items() if with_tag(cells, "check")}
    assert coded, "a chapter has at least one exercise with a check"
    variants = {}
    for label, cells in coded.items():
        check, student, solution = with_tag(cells, "check"), with_tag(cells, "exercise"), with_tag(solutions[label], "solution")
        assert student and solution, label
        variants[f"{label} untouched"] = student + check
        variants[f"{label} solved"] = solution + check
    job = {"setup": with_tag([c for _, c in execution.read(path).code], "exercise-setup"), "variants": variants}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, RUNNER], input=json.dumps(job), capture_output=True, text=True, cwd=path.parent, env=env
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert "setup" not in answers, answers
    for name, error in answers.items():
        if name.endswith("untouched"):
            assert error, f"{name}: an unsolved exercise passes its check"
        else:
            assert error is None, f"{name}: {error}"
