"""Random features against the kernels that they stand for, and their distributions."""

import math

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.gram import arc_cosine, gaussian
from kernelbook.similarity.random_features import fourier_features, orthogonal_gaussian, positive_features, relu_features


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64)


X, Z, G = draw("X", 5, 3) / 2, draw("Z", 4, 3) / 2, draw("G", 400_000, 3)
B = 2 * math.pi * torch.rand(400_000, generator=run.generator("B"), dtype=torch.float64)


@pytest.mark.parametrize(
    "features, kernel",
    [
        (lambda X: fourier_features(X, G / 0.8), lambda: gaussian(X, Z, bandwidth=0.8)),
        (lambda X: fourier_features(X, G / 0.8, B), lambda: gaussian(X, Z, bandwidth=0.8)),
        (lambda X: positive_features(X, G), lambda: torch.exp(X @ Z.T)),
        (lambda X: relu_features(X, G), lambda: arc_cosine(X, Z, order=1) / 2),
    ],
)
def test_they_are_unbiased(features, kernel):
    a, b, expected = features(X), features(Z), kernel()
    # six standard errors, out of the features' own products
    spread = torch.stack([(a[i] * b[j] * a.shape[1]).std() for i in range(5) for j in range(4)]).view(5, 4)
    assert ((a @ b.T - expected).abs() < 6 * spread / math.sqrt(a.shape[1]) + 1e-12).all()


def test_without_phases_every_point_has_length_one():
    assert torch.allclose(fourier_features(X, G[:50]).norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_rows_are_orthogonal_in_blocks_and_normal_each():
    W = orthogonal_gaussian(8, 4, run.generator("W"))
    for block in (W[:4], W[4:]):
        gram = block @ block.T
        assert (gram - gram.diagonal().diag()).abs().max() < 1e-12
    assert orthogonal_gaussian(6, 4, run.generator("W")).shape == (6, 4)


def test_rotations_are_haar():
    """Every entry of every row is N(0, 1): with a QR whose signs are not fixed, the first column's mean is off."""
    g = run.generator("haar")
    draws = torch.stack([orthogonal_gaussian(3, 3, g) for _ in range(4000)])
    assert draws.mean(0).abs().max() < 5 / math.sqrt(4000)
    assert (draws.square().mean(0) - 1).abs().max() < 5 * math.sqrt(2 / 4000)
    q, _ = torch.linalg.qr(torch.randn(4000, 3, 3, generator=g, dtype=torch.float64))
    assert q.mean(0).abs().max() > 5 / math.sqrt(4000)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: orthogonal_gaussian(0, 3, run.generator("g")), "rows=0: expected"),
        (lambda: orthogonal_gaussian(3, 2.0, run.generator("g")), "d=2.0: expected"),
        (lambda: fourier_features(X[0], G), r"X is torch.float64 of shape \(3,\): expected"),
        (lambda: fourier_features(X, G[:9, :2]), r"frequencies is .* \(9, 2\): expected \(1 or more, 3\)"),
        (lambda: fourier_features(X, G[:9], B[:8]), r"phases is .* \(8,\): expected \(9,\)"),
        (lambda: positive_features(X, G[:9].float()), "directions is torch.float32 .* expected .* torch.float64"),
        (lambda: relu_features(X, G[:0]), r"directions is .* \(0, 3\): expected \(1 or more, 3\)"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
