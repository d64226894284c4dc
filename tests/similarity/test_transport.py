"""Transport against POT."""

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.transport import sinkhorn_log, sliced_wasserstein


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64)


def test_the_plan_is_pots():
    import ot

    X, Y = draw("X", 7, 2), draw("Y", 5, 2)
    source, target = torch.softmax(draw("a", 7), 0), torch.softmax(draw("b", 5), 0)
    cost = torch.cdist(X, Y).square()
    theirs = ot.sinkhorn(source.numpy(), target.numpy(), cost.numpy(), 0.5, method="sinkhorn_log", numItermax=2000)
    ours = sinkhorn_log(cost, 0.5, 2000, source, target)
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-9)
    assert torch.allclose(sinkhorn_log(cost, 0.5, 3).sum(0), torch.full((5,), 0.2, dtype=torch.float64))


def test_small_epsilon_does_not_underflow():
    plan = sinkhorn_log(torch.cdist(draw("X", 6, 2), draw("Y", 6, 2)).square(), 1e-4, 2000)
    assert plan.isfinite().all() and abs(plan.sum() - 1) < 1e-6


@pytest.mark.parametrize("n, m", [(50, 50), (50, 20), (7, 3), (1, 4)])
def test_the_sliced_distance_is_pots(n, m):
    import ot

    X, Y, directions = draw("X", n, 3), 0.5 * draw("Y", m, 3) + 1, draw("directions", 9, 3)
    each = [ot.emd2_1d(*(np.ascontiguousarray((A @ u / u.norm()).numpy()) for A in (X, Y))) for u in directions]
    assert abs(float(sliced_wasserstein(X, Y, directions)) - np.mean(each)) < 1e-10


@pytest.mark.parametrize("m", [6, 4])
def test_gradients(m):
    X, Y, directions = draw("X", 6, 2).requires_grad_(), draw("Y", m, 2), draw("directions", 3, 2)
    assert torch.autograd.gradcheck(lambda X: sliced_wasserstein(X, Y, directions), (X,))
    assert torch.autograd.gradcheck(lambda X: sinkhorn_log(torch.cdist(X, Y).square(), 0.5, 5), (X,))


C = torch.zeros(3, 2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: sinkhorn_log(C, 0, 5), "epsilon=0, steps=5: expected"),
        (lambda: sinkhorn_log(C, 1, 0), "steps=0: expected"),
        (lambda: sinkhorn_log(C, 1, 5, target=torch.ones(3)), r"target has shape \(3,\): expected \(2,\)"),
        (lambda: sliced_wasserstein(C, C[:, :1], C), r"\(3, 1\), .*: expected"),
        (lambda: sliced_wasserstein(C, C, C[:0]), "none empty"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
