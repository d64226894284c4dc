"""The committed pictures are what the library draws."""

import runpy
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("tool", "picture"), [("draw_mark.py", "favicon.svg"), ("draw_picture.py", "three-kernels.svg")])
def test_the_picture_is_drawn_by_the_library(tool, picture, tmp_path):
    runpy.run_path(str(HOUSE / "tools" / tool))["draw"](tmp_path / picture)
    drawn, kept = (tmp_path / picture).read_text(), (HOUSE / "assets" / picture).read_text()
    # another machine may round a last digit differently: what must agree is which shapes there are
    assert drawn.count("<path") == kept.count("<path") and len(drawn) == pytest.approx(len(kept), rel=0.01)
