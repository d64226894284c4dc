import re

import pytest
from kernelbook.evidence.claims import claim
from kernelbook.evidence.counting import Timing, time_ratio
from kernelbook.pages import boxes


def record(**options):
    return claim(
        "ntk/x",
        "Less is $x^2$ more.",
        **({"measured": 0.2, "below": 0.5, "kind": "limit", "reported": "In Fig. 1 it is so."} | options),
    ).record


def test_a_box_says_everything_the_record_says():
    text = boxes.claim_box(record()).astext()
    for words in ("✓ holds", "limit", "ntk/x", "Measured 0.2; bound: below 0.5.", "The paper reports: In Fig. 1 it is so."):
        assert words in text


def test_math_in_a_statement_is_math():
    from docutils import nodes

    assert [n.astext() for n in boxes.claim_box(record()).findall(nodes.math)] == ["x^2"]


def place(picture, what):
    return float(re.search(rf'class="{what}" c?x1?="([\d.]+)"', picture)[1])


@pytest.mark.parametrize(
    ("options", "left_of_bound"),
    [({}, True), ({"below": None, "above": 0.1}, False), ({"measured": 1e-6, "below": 1.0}, True)],
)
def test_the_number_line_puts_the_value_on_its_side_of_the_bound(options, left_of_bound):
    picture = boxes.scale_picture(record(**options))
    assert (place(picture, "value") < place(picture, "bound")) is left_of_bound
    assert 0 <= place(picture, "value") <= 240


def test_identities_have_no_number_line():
    assert boxes.scale_picture(record(kind="identity")) == ""


def test_a_timing_is_a_ratio_and_names_the_peer():
    timing = time_ratio("sum", lambda: sum(range(20000)), lambda: sum(range(100)), "a short sum", repeat=5)
    assert timing.record["seconds"] > timing.record["peer_seconds"]
    assert "as slow as a short sum" in repr(timing)
    assert "2× as fast as" in repr(Timing(dict(name="a", peer="b", seconds=1, peer_seconds=2, machine="m")))
    with pytest.raises(ValueError, match="repeat=1"):
        time_ratio("sum", int, int, "int", repeat=1)
