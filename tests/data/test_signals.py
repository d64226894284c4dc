"""Signals: what they are, and that nothing else is touched."""

import random

import numpy as np
import pytest
from kernelbook.data.signals import mnist1d
from kernelbook.evidence import run


def test_signals_are_the_packages_and_follow_the_rng_alone():
    X, y = mnist1d(200, run.rng("a"))
    assert X.shape == (200, 40) and y.bincount().tolist() == [20] * 10
    assert abs(X.mean()) < 1e-5 and abs(X.std() - 1) < 1e-2
    assert (mnist1d(200, run.rng("a"))[0] == X).all() and not (mnist1d(200, run.rng("b"))[0] == X).all()


def test_global_states_are_put_back():
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    mnist1d(10, run.rng("a"))
    assert (np.random.get_state()[1] == before[0]).all() and random.getstate() == before[1]  # noqa: NPY002


def test_classes_can_be_told_apart():
    from sklearn.neighbors import KNeighborsClassifier

    X, y = mnist1d(3000, run.rng("a"))
    score = KNeighborsClassifier(5).fit(X[:2500], y[:2500]).score(X[2500:], y[2500:])
    assert 0.3 < score < 0.9, "a shift defeats neighbors, but not wholly"


@pytest.mark.parametrize("n", [0, 15, 10.0])
def test_bad_arguments_are_named(n):
    with pytest.raises(ValueError, match=f"n={n}: expected a multiple of 10"):
        mnist1d(n, run.rng("a"))
