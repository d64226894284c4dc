"""Gram matrices against loops, feature maps and random units."""

import math

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.gram import arc_cosine, gaussian, laplacian, matern, polynomial

KERNELS = [
    lambda X, Z=None: gaussian(X, Z, bandwidth=0.7),
    lambda X, Z=None: laplacian(X, Z, bandwidth=0.7),
    lambda X, Z=None: matern(X, Z, bandwidth=0.7, smoothness=1.5),
    lambda X, Z=None: matern(X, Z, bandwidth=0.7, smoothness=2.5),
    lambda X, Z=None: polynomial(X, Z, degree=3),
    lambda X, Z=None: arc_cosine(X, Z, order=0),
    lambda X, Z=None: arc_cosine(X, Z, order=1),
]


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=dtype)


def test_gaussian_is_its_formula():
    X, Z = draw("X", 5, 3), draw("Z", 4, 3)
    found = gaussian(X, Z, bandwidth=1.3)
    for i in range(5):
        for j in range(4):
            expected = math.exp(-float((X[i] - Z[j]).square().sum()) / (2 * 1.3**2))
            assert abs(float(found[i, j]) - expected) < 1e-14


def test_gaussian_does_not_cancel_far_from_the_origin():
    X = draw("X", 6, 4, dtype=torch.float32)
    # with |x|^2 + |z|^2 - 2 x.z these distances are lost in float32
    found = gaussian(X + 1024, bandwidth=1.0)
    assert torch.allclose(found, gaussian((X + 1024).double(), bandwidth=1.0).float(), atol=1e-6)
    assert torch.equal(found.diagonal(), torch.ones(6))


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
def test_matern_is_scikit_learns(smoothness):
    from sklearn.gaussian_process.kernels import Matern

    X, Z = draw("X", 5, 3), draw("Z", 4, 3)
    theirs = torch.from_numpy(Matern(length_scale=1.3, nu=smoothness)(X.numpy(), Z.numpy()))
    assert torch.allclose(matern(X, Z, bandwidth=1.3, smoothness=smoothness), theirs, atol=1e-14)


def test_laplacian_is_its_formula():
    X, Z = draw("X", 5, 3), draw("Z", 4, 3)
    assert torch.allclose(laplacian(X, Z, bandwidth=1.3), torch.exp(-(X[:, None] - Z).norm(dim=2) / 1.3), atol=1e-15)


def test_polynomial_is_an_inner_product_of_monomials():
    X, Z = draw("X", 5, 2), draw("Z", 4, 2)

    def features(A):
        a, b = A.T
        return torch.stack([a**2, b**2, math.sqrt(2) * a * b, math.sqrt(2 * 1.5) * a, math.sqrt(2 * 1.5) * b, 1.5 + 0 * a], 1)

    assert torch.allclose(polynomial(X, Z, degree=2, offset=1.5), features(X) @ features(Z).T, atol=1e-13)
    assert torch.allclose(polynomial(X, Z, degree=1, offset=0.0, scale=0.5), X @ Z.T / 2, atol=1e-14)


@pytest.mark.parametrize("order", [0, 1])
def test_arc_cosine_is_twice_the_mean_of_random_units(order):
    X, Z = draw("X", 3, 4), draw("Z", 2, 4)
    W = draw("W", 4, 1_000_000)
    unit = (lambda a: (a > 0).double()) if order == 0 else torch.relu
    sampled = 2 * unit(X @ W) @ unit(Z @ W).T / W.shape[1]
    assert torch.allclose(arc_cosine(X, Z, order=order), sampled, rtol=0.02, atol=0.02)


def test_arc_cosine_is_homogeneous():
    X, Z = draw("X", 3, 4), draw("Z", 2, 4)
    assert torch.allclose(arc_cosine(3 * X, 2 * Z, order=1), 6 * arc_cosine(X, Z, order=1))
    assert torch.allclose(arc_cosine(3 * X, 2 * Z, order=0), arc_cosine(X, Z, order=0))


def test_arc_cosine_diagonal_is_exact_and_zero_rows_are_finite():
    X = torch.cat([draw("X", 20, 7), torch.zeros(1, 7, dtype=torch.float64)])
    assert torch.equal(arc_cosine(X, order=0).diagonal()[:-1], torch.ones(20, dtype=torch.float64))
    assert torch.allclose(arc_cosine(X, order=1).diagonal(), X.square().sum(1), rtol=1e-14)
    assert arc_cosine(X, order=1)[-1].abs().max() == 0 and arc_cosine(X, order=0).isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gram_is_symmetric_positive_and_keeps_its_dtype(kernel, dtype):
    X = draw("X", 12, 3, dtype=dtype)
    K = kernel(X)
    assert K.dtype == dtype and K.shape == (12, 12) and kernel(X, X[:5]).shape == (12, 5)
    # where X is not Z the cosine of equal points is 1 up to rounding, and the arc cosine takes the root of that
    assert torch.allclose(K, K.T) and torch.allclose(kernel(X, X[:5]), K[:, :5], atol=4 * torch.finfo(dtype).eps ** 0.5)
    assert torch.linalg.eigvalsh(K.double())[0] > -100 * torch.finfo(dtype).eps * K.max()


X2 = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gaussian(X2, bandwidth=0), "bandwidth=0: expected a positive"),
        (lambda: gaussian(X2, bandwidth=math.nan), "bandwidth=nan: expected"),
        (lambda: laplacian(X2, bandwidth=-1), "bandwidth=-1: expected a positive"),
        (lambda: matern(X2, bandwidth=1, smoothness=2), "smoothness=2: expected 0.5, 1.5 or 2.5"),
        (lambda: polynomial(X2, degree=0), "degree=0: expected"),
        (lambda: polynomial(X2, degree=2.0), "degree=2.0: expected"),
        (lambda: polynomial(X2, degree=2, offset=-1), "offset=-1: expected"),
        (lambda: polynomial(X2, degree=2, scale=0), "scale=0: expected"),
        (lambda: arc_cosine(X2, order=2), "order=2: expected 0"),
        (lambda: gaussian(torch.zeros(3), bandwidth=1), r"X is torch.float32 of shape \(3,\): expected"),
        (lambda: gaussian([[0.0]], bandwidth=1), "X is list: expected"),
        (lambda: gaussian(X2, torch.zeros(2, 3, dtype=torch.int64), bandwidth=1), "Z is torch.int64 of shape"),
        (lambda: gaussian(X2, torch.zeros(2, 4), bandwidth=1), "Z has 4 features of torch.float32: expected 3 of"),
        (lambda: gaussian(X2, X2.double(), bandwidth=1), "Z has 3 features of torch.float64: expected 3 of torch.float32"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
