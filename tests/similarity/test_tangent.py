"""Tangent kernels against brute force: difference quotients, sampled networks, time steps, and each other."""

import math
from itertools import pairwise

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.tangent import empirical_ntk, kernel_gradient_flow, nngp_ntk

ACTIVATIONS = {"relu": torch.relu, "erf": torch.erf, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu}


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=dtype)


def random_network(name, sizes):
    return [(draw(f"{name}/W{i}", m, n), draw(f"{name}/b{i}", n)) for i, (m, n) in enumerate(pairwise(sizes))]


def forward(params, X, sigma_w=1.2, sigma_b=0.3, activation=torch.relu):
    for i, (W, b) in enumerate(params):
        X = sigma_w * X @ W / math.sqrt(W.shape[0]) + sigma_b * b
        X = X if i == len(params) - 1 else activation(X)
    return X


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_limit_is_the_mean_of_wide_networks(name):
    X = draw("X", 4, 3)
    Sigma, Theta = nngp_ntk(X, depth=3, sigma_w=1.2, sigma_b=0.3, activation=name)
    apply = lambda p, x: forward(p, x, activation=ACTIVATIONS[name]).squeeze(-1)  # noqa: E731
    nets = [random_network(f"{name}/{i}", [3, 256, 256, 1]) for i in range(40)]
    kernels = torch.stack([empirical_ntk(apply, p, X) for p in nets])
    # 40 networks of width 256: entries scatter by about 10 % a network
    assert ((kernels.mean(0) - Theta).abs() / Theta.abs().max()).max() < 0.08
    outputs = torch.stack([apply(p, X) for p in [random_network(f"{name}/o{i}", [3, 64, 64, 1]) for i in range(4000)]])
    assert ((outputs.T @ outputs / 4000 - Sigma).abs() / Sigma.max()).max() < 0.15


def test_depth_one_is_linear_and_depth_two_has_a_closed_form():
    X = draw("X", 5, 3)
    X = X / X.norm(dim=1, keepdim=True)
    Sigma, Theta = nngp_ntk(X, depth=1, sigma_b=0.1)
    assert torch.allclose(Sigma, X @ X.T / 3 + 0.01) and torch.equal(Sigma, Theta)
    rho = (X @ X.T).clamp(-1, 1).fill_diagonal_(1)
    t = torch.acos(rho)
    k0, k1 = (math.pi - t) / math.pi, (torch.sin(t) + (math.pi - t) * rho) / math.pi
    Sigma, Theta = nngp_ntk(X, depth=2)
    assert torch.allclose(Sigma, k1 / 6, atol=1e-9) and torch.allclose(Theta, (k1 + rho * k0) / 6, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_two_sets_of_points_give_a_block_of_the_whole(name):
    X = draw("X", 7, 20)
    whole = nngp_ntk(X, depth=4, sigma_w=1.1, sigma_b=0.2, activation=name)
    block = nngp_ntk(X[:5], X[3:], depth=4, sigma_w=1.1, sigma_b=0.2, activation=name)
    for a, b in zip(whole, block, strict=True):
        assert a.dtype == torch.float64 and torch.allclose(a[:5, 3:], b, rtol=1e-9, atol=1e-12)


def test_relu_limit_doubles_with_the_inputs_and_needs_no_float64_from_the_caller():
    X = draw("X", 4, 3, dtype=torch.float32)
    one, two = nngp_ntk(X, depth=3), nngp_ntk(2 * X, depth=3)
    assert one[1].dtype == torch.float64
    assert torch.allclose(two[1], 4 * one[1], rtol=1e-12)
    assert torch.allclose(one[1], nngp_ntk(X.double(), depth=3)[1], rtol=1e-12)


def test_relu_limit_is_positive_definite_on_the_circle():
    angle = 2 * math.pi * torch.arange(24, dtype=torch.float64) / 24
    X = torch.stack([angle.cos(), angle.sin()], 1)
    assert torch.linalg.eigvalsh(nngp_ntk(X, depth=3, sigma_b=0.1)[1])[0] > 1e-3


def test_empirical_kernel_is_the_product_of_difference_quotients():
    params, X, Z = random_network("net", [3, 5, 4, 2]), draw("X", 4, 3), draw("Z", 3, 3)
    smooth = lambda p, x: forward(p, x, activation=torch.tanh)  # noqa: E731
    flat = [t for pair in params for t in pair]

    def jacobian(points):
        columns = []
        for tensor in flat:
            for i in range(tensor.numel()):
                values = []
                for sign in (1, -1):
                    tensor.view(-1)[i] += sign * 1e-6
                    values.append(smooth(params, points))
                    tensor.view(-1)[i] -= sign * 1e-6
                columns.append((values[0] - values[1]) / 2e-6)
        return torch.stack(columns, -1)

    expected = torch.einsum("iap,jbp->ijab", jacobian(X), jacobian(Z))
    assert torch.allclose(empirical_ntk(smooth, params, X, Z), expected, atol=1e-7)


def test_chunks_parameter_trees_and_scalar_outputs_do_not_matter():
    params, X = random_network("net", [3, 6, 1]), draw("X", 5, 3)
    tree = {"first": params[0], "last": list(params[1])}
    by_tree = empirical_ntk(lambda p, x: forward([p["first"], p["last"]], x), tree, X, chunk=2)
    by_list = empirical_ntk(lambda p, x: forward(p, x).squeeze(-1), params, X)
    assert by_tree.shape == (5, 5, 1, 1) and by_list.shape == (5, 5)
    assert torch.allclose(by_tree[..., 0, 0], by_list) and torch.allclose(by_list, by_list.T)
    block = empirical_ntk(lambda p, x: forward(p, x).squeeze(-1), params, X[:2], X[1:], chunk=3)
    assert torch.allclose(block, by_list[:2, 1:])


def test_a_scalar_parameter_counts():
    X = draw("X", 3, 2)
    kernel = empirical_ntk(lambda p, x: p * x.sum(1), torch.tensor(2.0, dtype=torch.float64), X)
    assert torch.allclose(kernel, X.sum(1)[:, None] * X.sum(1))


def flow_case():
    A = draw("A", 6, 6)
    return A @ A.T / 6, draw("y", 6), draw("f0", 6), draw("cross", 4, 6), draw("start", 4)


def test_flow_is_what_small_steps_do():
    Theta, y, f0, cross, start = flow_case()
    seen, unseen, steps = f0.clone(), start.clone(), 20_000
    for _ in range(steps):
        pull = y - seen
        seen, unseen = seen + 1.5 / steps * Theta @ pull, unseen + 1.5 / steps * cross @ pull
    assert torch.allclose(kernel_gradient_flow(Theta, y, f0, 1.5), seen, atol=1e-3)
    assert torch.allclose(kernel_gradient_flow(Theta, y, f0, 1.5, cross, start), unseen, atol=1e-3)


def test_flow_is_the_matrix_exponential_and_ends_in_kernel_regression():
    Theta, y, f0, cross, start = flow_case()
    expected = y + torch.linalg.matrix_exp(-0.7 * Theta) @ (f0 - y)
    assert torch.allclose(kernel_gradient_flow(Theta, y, f0, 0.7), expected, atol=1e-12)
    assert torch.equal(kernel_gradient_flow(Theta, y, f0, 0.0), f0)
    regression = start + cross @ torch.linalg.solve(Theta, y - f0)
    assert torch.allclose(kernel_gradient_flow(Theta, y, f0, math.inf, cross, start), regression, atol=1e-8)


def test_null_directions_do_not_learn():
    a = draw("a", 6, 2)
    Theta, y, f0 = a @ a.T, draw("y", 6), draw("f0", 6)
    onto = a @ torch.linalg.pinv(a)
    assert torch.allclose(kernel_gradient_flow(Theta, y, f0, math.inf), f0 + onto @ (y - f0), atol=1e-10)


def test_columns_and_stacks_of_kernels():
    Theta, y, f0, cross, start = flow_case()
    columns = kernel_gradient_flow(Theta, y[:, None], torch.stack([f0, -f0], 1), 0.5, cross, torch.stack([start, start], 1))
    stack = kernel_gradient_flow(torch.stack([Theta, 2 * Theta]), y, torch.stack([f0, f0]), 0.5)
    assert torch.allclose(columns[:, 0], kernel_gradient_flow(Theta, y, f0, 0.5, cross, start))
    assert torch.allclose(columns[:, 1], kernel_gradient_flow(Theta, y, -f0, 0.5, cross, start))
    assert torch.allclose(stack[1], kernel_gradient_flow(Theta, y, f0, 1.0))


X3, THETA = torch.eye(3), torch.eye(3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: nngp_ntk(X3, depth=0), "depth=0: expected"),
        (lambda: nngp_ntk(X3, depth=2.0), "depth=2.0: expected"),
        (lambda: nngp_ntk(X3, depth=2, sigma_b=-0.1), "sigma_b=-0.1: expected"),
        (lambda: nngp_ntk(X3, depth=2, sigma_w=math.inf), "sigma_w=inf: expected"),
        (lambda: nngp_ntk(X3, depth=2, activation="sine"), "name='sine': expected one of relu"),
        (lambda: nngp_ntk(X3, torch.zeros(2, 4), depth=2), "Z has 4 features"),
        (lambda: empirical_ntk(lambda p, x: (p * x).sum(), torch.ones(1), X3), r"apply gives shape \(\) for one input: expected"),
        (lambda: empirical_ntk(lambda p, x: (p * x)[..., None], torch.ones(3), X3), r"apply gives shape \(1, 3, 1\)"),
        (lambda: empirical_ntk(lambda p, x: x @ p, torch.ones(3), X3, chunk=0), "chunk=0: expected"),
        (lambda: kernel_gradient_flow(THETA, X3[0], X3[0], -1.0), "t=-1.0: expected"),
        (lambda: kernel_gradient_flow(THETA, X3[0], X3[0], math.nan), "t=nan: expected"),
        (lambda: kernel_gradient_flow(torch.ones(2, 3), X3[0], X3[0], 1.0), r"shapes \(2, 3\) and \(3,\): expected \(n, n\)"),
        (lambda: kernel_gradient_flow(THETA, torch.ones(4), torch.ones(4), 1.0), "expected as many points in f0 as in Theta"),
        (lambda: kernel_gradient_flow(THETA, X3[0], X3[0], 1.0, Theta_test=THETA), "expected both or neither"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
