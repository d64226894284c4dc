"""Low-rank approximations: exact where they must be, and no better than the best."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.gram import gaussian, polynomial
from kernelbook.similarity.low_rank import cur, nystrom, truncated_pinv


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64)


def test_pseudo_inverse_is_torchs_at_the_same_cutoff():
    A = draw("U", 9, 4) @ torch.diag(torch.tensor([1.0, 0.1, 1e-2, 1e-5], dtype=torch.float64)) @ draw("V", 4, 6)
    for rtol in (1e-3, 1e-9):
        assert torch.allclose(truncated_pinv(A, rtol), torch.linalg.pinv(A, rtol=rtol), rtol=1e-6)
    assert truncated_pinv(A, 1e-3).norm() < 1e-2 * truncated_pinv(A, 1e-9).norm()
    assert truncated_pinv(A[:0]).shape == (6, 0)


def test_nystrom_is_exact_at_the_landmarks_and_at_full_rank():
    X = draw("X", 40, 2)
    K = gaussian(X, bandwidth=1.0)
    F = nystrom(K[:, :8], K[:8, :8])
    assert torch.allclose((F @ F.T)[:8, :8], K[:8, :8], atol=1e-8)
    assert torch.linalg.eigvalsh(K - F @ F.T)[0] > -1e-8, "Nyström never overshoots"
    best = torch.linalg.eigvalsh(K)[:-8].square().sum().sqrt()
    assert best <= (K - F @ F.T).norm() <= 40 * best
    P = polynomial(X, degree=2)  # rank 6
    F = nystrom(P[:, :9], P[:9, :9])
    assert F.shape == (40, 6) and torch.allclose(F @ F.T, P, atol=1e-8)


def test_cur_is_exact_at_the_rank_and_indefinite_is_fine():
    A = draw("A", 30, 5) @ draw("B", 5, 20)
    i, j = torch.arange(0, 30, 4), torch.arange(0, 20, 2)
    assert torch.allclose(cur(A[:, j], A[i][:, j], A[i], rtol=1e-10), A, atol=1e-10)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: truncated_pinv(torch.zeros(3)), r"A has shape \(3,\)"),
        (lambda: truncated_pinv(torch.zeros(3, 2), 1.0), "rtol=1.0: expected"),
        (lambda: nystrom(torch.zeros(3, 2), torch.zeros(3, 3)), r"core \(3, 3\)"),
        (lambda: cur(torch.zeros(3, 2), torch.zeros(2, 3), torch.zeros(2, 5)), r"\(2, 3\), \(2, 5\)\]: expected"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
