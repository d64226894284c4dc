"""The path that every chapter takes at full scale, walked with shrunken constants."""

import pytest
from kernelbook.evidence import execution, house

CHAPTERS = [p for p in execution.notebooks() if p.parent.name != "solutions"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.relative_to(house.book()).with_suffix("").as_posix())
def test_the_full_path_runs(path):
    settings = execution.Settings(scale="full", smoke=True)
    try:
        execution.bring_up_to_date(path, settings)
    except execution.ChapterFailed as failure:
        pytest.fail(f"{failure.place}: {failure.summary}\n\n{failure.listing}\n\n{execution.plain(failure.trace)}")
    stamp = execution.stamp_of(path, settings)
    assert stamp["scale"] == "full"
