import re

import pytest
from kernelbook.pages.explore import explore


def explorer(**options):
    options = {"alt": "A line", "size": (2, 1)} | options

    @explore(**options)
    def line(fig, **setting):
        fig.subplots().plot([0, sum(v for v in setting.values() if not isinstance(v, str))])

    return line


def test_every_setting_is_printed_once_and_only_the_first_is_shown():
    page = explorer(a=[1, 2, 3], b=[0.1, 0.25]).printed()
    alts = re.findall(r'<img alt="([^"]*)"', page)
    assert alts[0] == "A line: a = 1, b = 0.1" and len(set(alts)) == 6
    shown = [i for i in re.findall(r"<img [^>]*>", page) if " hidden" not in i]
    assert len(shown) == 1 and "a = 2, b = 0.25" in shown[0]


def test_frames_differ_and_need_no_network_or_script_element():
    page = explorer(a=[1, 2]).printed()
    frames = re.findall(r'src="(data:image/webp;base64,[^"]+)"', page)
    assert len(set(frames)) == 2
    assert "<script" not in page and "http" not in page


def test_the_order_of_frames_is_that_of_the_sliders():
    line = explorer(a=[1, 2], b=[10, 20, 30])
    assert [(s["a"], s["b"]) for s in line.settings()] == [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20), (2, 30)]


def test_text_in_alt_and_values_is_escaped():
    page = explorer(alt='"><script>', a=["<b>", "c"]).printed()
    assert "<script>" not in page and "<b>" not in page


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "0 frames|no slider"),
        ({"a": [1]}, r"a=\[1\]: expected at least two"),
        ({"a": range(7), "b": range(6)}, "42 frames"),
        ({"a": [1, 2], "start": {"a": 3}}, r"start\['a'\]=3"),
    ],
)
def test_bad_sliders_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        explorer(**options)


def test_live_sliders_draw_when_moved():
    drawn = []

    @explore(alt="x", a=[1, 2, 3])
    def f(fig, a):
        drawn.append(a)

    widget = f.live()
    widget.children[0].value = 3
    widget.update()
    assert drawn[-1] == 3


def test_a_survey_draws_nothing(monkeypatch):
    monkeypatch.setenv("KERNELBOOK_SURVEY", "1")

    @explore(alt="x", a=[1, 2])
    def f(fig, a):
        raise AssertionError("drawn")

    f._ipython_display_()
