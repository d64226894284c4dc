"""A counter of calls."""

import pytest
import torch
from kernelbook.evidence.counting import CallCounter


def test_it_counts_calls_and_rows_and_passes_results_on():
    score = CallCounter(lambda weight, rows: weight * rows.sum(1))
    assert score(2, torch.ones(3, 4)).tolist() == [8, 8, 8]
    score(1, torch.ones(5, 4))
    assert (score.calls, score.items) == (2, 8)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="f=3: expected a function"):
        CallCounter(3)
    with pytest.raises(ValueError, match="expected at least one argument"):
        CallCounter(len)()
