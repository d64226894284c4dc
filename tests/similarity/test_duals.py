"""Dual activations against quadrature, sampling, series and their limits."""

import math

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.duals import arc_cosine_dual, dual_activation, gram_to_gram, quadrature_dual
from scipy import integrate

FUNCTIONS = {
    "relu": (torch.relu, lambda x: (x > 0).double()),
    "erf": (torch.erf, lambda x: 2 / math.sqrt(math.pi) * torch.exp(-(x**2))),
    "tanh": (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
    "gelu": (torch.nn.functional.gelu, None),
}
TRIPLES = [(0.3, 1.0, 1.0), (-0.7, 0.8, 1.5), (0.0, 2.0, 0.5), (0.99, 1.0, 1.0), (1.2, 1.5, 1.1)]


def as_tensors(triple):
    return [torch.tensor(v, dtype=torch.float64) for v in triple]


def by_polar_integral(order, rho):
    """2 E[u^order v^order; u, v > 0]: the radius in closed form, the angle by adaptive quadrature."""
    theta = math.acos(rho)
    # u = r cos(a), v = r cos(a - theta): both positive for a in (theta - pi/2, pi/2)
    angle, _ = integrate.quad(
        lambda a: (math.cos(a) * math.cos(a - theta)) ** order, theta - math.pi / 2, math.pi / 2, epsabs=1e-13
    )
    return 2 * angle * (1 if order == 0 else 2) / (2 * math.pi)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("rho", [-1.0, -0.9, -0.2, 0.0, 0.35, 0.999])
def test_arc_cosine_duals_are_gaussian_integrals(order, rho):
    found = float(arc_cosine_dual(order, torch.tensor(rho, dtype=torch.float64)))
    assert abs(found - by_polar_integral(order, rho)) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arc_cosine_duals_are_exact_at_the_ends_and_clamped_beyond(dtype):
    ends = torch.tensor([-1 - 1e-6, -1.0, 1.0, 1 + 1e-6], dtype=dtype)
    for order in (0, 1):
        assert torch.equal(arc_cosine_dual(order, ends), torch.tensor([0, 0, 1, 1], dtype=dtype))


def test_arc_cosine_duals_near_one_follow_their_series():
    gap = torch.logspace(-10, -4, 13, dtype=torch.float64)
    k0 = 1 - math.sqrt(2) / math.pi * gap.sqrt() * (1 + gap / 12)
    k1 = 1 - gap + 2 * math.sqrt(2) / (3 * math.pi) * gap**1.5
    assert torch.allclose(arc_cosine_dual(0, 1 - gap), k0, rtol=0, atol=1e-10)
    assert torch.allclose(arc_cosine_dual(1, 1 - gap), k1, rtol=0, atol=1e-10)


def test_order_zero_is_the_derivative_of_order_one():
    rho = torch.linspace(-0.95, 0.95, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(arc_cosine_dual(1, rho).sum(), rho)
    assert torch.allclose(slope, arc_cosine_dual(0, rho), atol=1e-12)


@pytest.mark.parametrize("name", ["erf", "tanh", "gelu"])
@pytest.mark.parametrize("triple", TRIPLES)
def test_smooth_duals_against_scipy(name, triple):
    c, p, q = triple
    phi = {"erf": math.erf, "tanh": math.tanh, "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))}[name]
    a, rest = c / math.sqrt(p), math.sqrt(q - c * c / p)
    grid = np.linspace(-9, 9, 1201)  # the trapezoidal rule on a smooth, decaying integrand converges geometrically
    weight = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    outer = np.vectorize(phi)(math.sqrt(p) * grid) * weight
    inner = np.vectorize(phi)(a * grid[:, None] + rest * grid[None, :]) @ weight
    found = float(dual_activation(name)[0](*as_tensors(triple)))
    # the poles of tanh slow the Gauss-Hermite rule down
    assert abs(found - float(outer @ inner)) < (1e-7 if name == "tanh" else 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("triple", TRIPLES)
def test_second_dual_is_the_derivative_of_the_first_in_the_covariance(name, triple):
    c, p, q = as_tensors(triple)
    phi, slope = dual_activation(name)
    h = 1e-5
    difference = (phi(c + h, p, q) - phi(c - h, p, q)) / (2 * h)
    assert abs(float(difference - slope(c, p, q))) < 2e-6


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_closed_forms_against_sampling(name):
    u, w = torch.randn(2, 2_000_000, generator=run.generator("pairs"), dtype=torch.float64)
    v = 0.6 * u + 0.8 * w
    for function, dual in zip(FUNCTIONS[name], dual_activation(name), strict=True):
        sampled = (function(u) * function(math.sqrt(2) * v)).mean()
        assert abs(float(sampled - dual(*as_tensors((0.6 * math.sqrt(2), 1.0, 2.0))))) < 4e-3


def test_variances_left_out_are_one():
    rho = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for name in FUNCTIONS:
        for dual in dual_activation(name):
            assert torch.allclose(dual(rho), dual(rho, torch.ones(9), torch.ones(9)))


def test_quadrature_has_converged():
    rho = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for nodes in (64, 96):
        assert torch.allclose(quadrature_dual(torch.erf, nodes)(rho), dual_activation("erf")[0](rho), atol=1e-13)
    assert torch.allclose(quadrature_dual(torch.tanh)(rho), quadrature_dual(torch.tanh, 120)(rho), atol=1e-9)


def test_gram_to_gram_reads_its_own_diagonal():
    X = torch.randn(6, 9, generator=run.generator("X"), dtype=torch.float64)
    gram = X @ X.T
    whole = gram_to_gram(gram, activation="relu")
    part = gram_to_gram(gram[:, :2], gram.diagonal(), gram.diagonal()[:2], activation="relu")
    assert torch.allclose(whole[0][:, :2], part[0]) and torch.allclose(whole[1][:, :2], part[1])
    # E[relu(u)^2] is half the variance, and the unit is on half the time
    assert torch.allclose(whole[0].diagonal(), gram.diagonal() / 2, rtol=1e-15)
    assert torch.equal(whole[1].diagonal(), torch.full((6,), 0.5, dtype=torch.float64))


def test_cosines_one_rounding_from_one_count_as_one():
    x = torch.tensor([[0.1, 0.7, 0.3]], dtype=torch.float64)
    for scale in (1.0, 1.1, 3.7, 1e-3):
        cross, p, q = scale * (x @ x.T), (x * x).sum(1), (scale * x).square().sum(1)
        assert gram_to_gram(cross, p, q, activation="relu")[1].item() == 0.5


def test_zero_variance_stays_finite():
    zero = torch.zeros(1, dtype=torch.float64)
    for name in FUNCTIONS:
        for dual in dual_activation(name):
            assert dual(zero, zero, torch.ones(1)).isfinite().all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: arc_cosine_dual(2, torch.zeros(1)), "order=2: expected 0"),
        (lambda: dual_activation("sine"), "name='sine': expected one of relu, erf, tanh, gelu"),
        (lambda: quadrature_dual(torch.tanh, 1), "nodes=1: expected"),
        (lambda: gram_to_gram(torch.zeros(2, 3), activation="relu"), r"gram has shape \(2, 3\): expected a square matrix"),
        (lambda: gram_to_gram(torch.zeros(2, 3), torch.ones(2), activation="relu"), r"shapes \[\(2,\), None\]: expected"),
        (lambda: gram_to_gram(torch.zeros(2, 3), torch.ones(3), torch.ones(2), activation="relu"), r"shapes \[\(3,\), \(2,\)\]"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
