import json

import numpy as np
import pytest
import torch
from kernelbook.evidence import claims
from kernelbook.evidence.claims import ClaimFailed, claim
from kernelbook.evidence.record import Recorded

SENTENCE = "A wider network's kernel moves less."


def made(**options):
    options = {"measured": 0.2, "below": 0.5, "kind": "scaling"} | options
    return claim("ntk/constant-kernel", SENTENCE, **options).record


@pytest.mark.parametrize(
    ("measured", "bound", "met"),
    [
        (0.49, {"below": 0.5}, True),
        (0.5, {"below": 0.5}, False),
        (0.51, {"above": 0.5}, True),
        (0.49, {"above": 0.5}, False),
        (0.5, {"within": (0.4, 0.6)}, True),
        (0.61, {"within": (0.4, 0.6)}, False),
        (1.001, {"equals": (1, 0.01)}, True),
        (1.1, {"equals": (1, 0.01)}, False),
        (float("nan"), {"below": 0.5}, False),
        (float("inf"), {"above": 0.5}, False),
        (-float("inf"), {"below": 0.5}, False),
    ],
)
def test_a_scalar_is_held_against_its_bound(measured, bound, met):
    options = dict(measured=measured, below=None) | bound
    if met:
        assert made(**options)["verdict"] == "holds"
    else:
        with pytest.raises(ClaimFailed, match="ntk/constant-kernel does not hold"):
            made(**options)


def test_the_failure_says_what_was_measured_against_what():
    with pytest.raises(ClaimFailed, match=r"measured 0\.7, bound below 0\.5"):
        made(measured=0.7)


def test_seeds_must_meet_the_bound_at_the_end_of_their_interval():
    values = [0.30, 0.40, 0.50, 0.45]  # mean below 0.5, the interval's end above it
    assert np.mean(values) < 0.5
    with pytest.raises(ClaimFailed):
        made(measured=values)
    assert made(measured=values, below=0.6)["interval"][1] == pytest.approx(0.4125 + 3.182446 * np.std(values, ddof=1) / 2)


@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor])
def test_seeds_come_in_any_container(container):
    record = made(measured=container([0.1, 0.2, 0.3]))
    assert record["n"] == 3 and record["measured"] == pytest.approx(0.2)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("scalar", [np.float32(0.25), torch.tensor(0.25), 0.25])
def test_scalars_come_in_any_type(scalar):
    assert made(measured=scalar)["measured"] == 0.25


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"below": None}, "none; expected just one"),
        ({"above": 0.1}, "below, above; expected just one"),
        ({"below": (0, 1)}, r"below=\(0, 1\): expected a number"),
        ({"below": None, "within": 3}, "within=3: expected a pair"),
        ({"below": None, "within": (2, 1)}, "no value lies inside"),
        ({"below": None, "equals": (1, 0)}, "tolerance above 0"),
        ({"below": float("inf")}, "expected finite"),
        ({"kind": "guess"}, "kind='guess'"),
        ({"measured": True}, "truth value"),
        ({"measured": "0.2"}, "measured='0.2'"),
        ({"measured": [0.1]}, "several seeds"),
        ({"measured": [[0.1, 0.2], [0.1, 0.2]]}, "several seeds"),
        ({"because": "of some reason here"}, "only with holds=False"),
        ({"holds": False}, "because=''"),
    ],
)
def test_malformed_claims_are_refused_with_the_argument_named(options, named):
    with pytest.raises(ValueError, match=named):
        made(**options)


@pytest.mark.parametrize("id", ["ntk", "NTK/x", "ntk/x/y", "ntk/", "ntk/x y"])
def test_ids_have_a_paper_and_a_name(id):
    with pytest.raises(ValueError, match="expected paper-key/short-name"):
        claim(id, SENTENCE, measured=0, below=1, kind="limit")


def test_what_does_not_hold_is_a_verdict_and_no_error():
    record = made(measured=0.9, holds=False, because="Too few widths fit the budget.")
    assert record["verdict"] == "does not hold here" and record["met"] is False


def test_null_needs_the_interval_inside_the_range():
    ok = claim.null(
        "ntk/x", SENTENCE, measured=[0.01, -0.01, 0.0, 0.01], within=(-0.1, 0.1), kind="limit", because="It is too small to see."
    )
    assert ok.record["verdict"] == "no effect here"
    with pytest.raises(ClaimFailed):
        claim.null(
            "ntk/x", SENTENCE, measured=[0.3, -0.3, 0.2], within=(-0.1, 0.1), kind="limit", because="It is too small to see."
        )
    with pytest.raises(ValueError, match="around 0"):
        claim.null("ntk/x", SENTENCE, measured=[0.3, 0.3], within=(0.1, 0.5), kind="limit", because="It is too small to see.")


def test_controlled_is_decided_on_the_paired_difference():
    noise = np.array([0.0, 5.0, -3.0, 9.0])
    gain = np.array([0.9, 1.0, 1.1, 1.0])
    words = dict(kind="mechanism", because="The control takes out the seed's own level.")
    record = claim.controlled("ntk/x", SENTENCE, measured=noise + gain, control=noise, above=0.5, **words).record
    assert record["verdict"] == "holds with a control" and record["measured"] == pytest.approx(1.0)
    with pytest.raises(ClaimFailed):
        claim.controlled("ntk/x", SENTENCE, measured=noise + gain, control=noise, above=1.5, **words)
    with pytest.raises(ValueError, match="one number per seed in each"):
        claim.controlled("ntk/x", SENTENCE, measured=gain, control=1.0, above=0.5, **words)


def test_out_of_reach_measures_nothing():
    record = claims.out_of_reach(
        "ntk/x", SENTENCE, reported="76 % on ImageNet, Table 2", because="It needs ImageNet and a cluster."
    ).record
    assert record["verdict"] == "out of reach" and record["measured"] is None and record["bound"] is None


def test_a_survey_records_failures_instead_of_stopping(monkeypatch):
    monkeypatch.setenv("KERNELBOOK_SURVEY", "1")
    assert made(measured=0.9)["verdict"] == "fails"


def test_a_recorded_mean_must_clear_the_bound_by_four_errors():
    values = tuple(0.30 + 0.01 * (-1) ** i for i in range(20))  # standard error about 0.0023
    assert made(measured=Recorded(0.31, values), below=0.32)["verdict"] == "holds"
    with pytest.raises(ClaimFailed):
        made(measured=Recorded(0.31, values), below=0.305)


def test_a_live_value_far_from_its_record_fails_even_on_the_right_side():
    values = tuple(0.30 + 0.01 * (-1) ** i for i in range(20))
    with pytest.raises(ClaimFailed):
        made(measured=Recorded(0.10, values), below=0.5)


def test_a_claim_draws_itself_with_and_without_our_renderer():
    bundle = claim("ntk/x", "Less <b> than & more.", measured=3.2e-7, below=1e-6, kind="identity")._repr_mimebundle_()
    assert set(bundle) == {claims.MIME, "text/html", "text/plain"}
    assert "&lt;b&gt;" in bundle["text/html"] and "<b> than" not in bundle["text/html"]
    assert "3.2 × 10⁻⁷" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("x", "text"), [(0.5, "0.5"), (-0.5, "−0.5"), (1.5e-10, "1.5 × 10⁻¹⁰"), (123456, "1.23 × 10⁵"), (None, "not finite")]
)
def test_numbers_are_written_as_a_reader_writes_them(x, text):
    assert claims.number_text(x) == text
