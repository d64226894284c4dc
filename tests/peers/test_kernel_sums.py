"""Kernel sums against KeOps, which never forms the Gram matrix either."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.kernel_sums import kernel_sums
from kernelbook.gpu.registry import normal

lazy = pytest.importorskip("pykeops.torch", reason="pykeops is not installed").LazyTensor


def drawn(n=200, m=300, d=3, columns=2):
    generator = run.generator("keops")
    return (normal(generator, torch.float64, *shape) for shape in ((n, d), (m, d), (m, columns)))


def logs(name, x, y, h):
    """The logarithm of the kernel as a lazy (n, m) matrix."""
    x, y = lazy(x[:, None, :].contiguous()), lazy(y[None, :, :].contiguous())
    squares = ((x - y) ** 2).sum(-1) / h**2
    if name == "gaussian":
        return -squares / 2
    if name == "cauchy":
        return -(1 + squares).log()
    root = squares.sqrt()
    return -root if name == "laplacian" else (1 + 3**0.5 * root).log() - 3**0.5 * root


NAMES = ["gaussian", "laplacian", "cauchy", "matern32"]


@pytest.mark.parametrize("name", NAMES)
def test_weighted_sums(name):
    x, y, w = drawn()
    theirs = logs(name, x, y, 0.7).exp() @ w
    assert torch.allclose(kernel_sums(x, y, w, kernel=name, bandwidth=0.7), theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_log_sums(name):
    x, y, _ = drawn()
    theirs = logs(name, x, y, 0.05).logsumexp(1).squeeze(-1)
    assert torch.allclose(kernel_sums(x, y, kernel=name, bandwidth=0.05, reduce="logsumexp"), theirs, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_softmax_means(name):
    x, y, w = drawn()
    theirs = logs(name, x, y, 0.3).sumsoftmaxweight(lazy(w[None]), axis=1)
    ours = kernel_sums(x, y, w, kernel=name, bandwidth=0.3, reduce="softmax")
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_gradients():
    x, y, w = (t.requires_grad_() for t in drawn())
    upstream = normal(run.generator("upstream"), torch.float64, len(x), w.shape[1])
    theirs = torch.autograd.grad(logs("gaussian", x, y, 0.7).exp() @ w, (x, y, w), upstream)
    ours = torch.autograd.grad(kernel_sums(x, y, w, bandwidth=0.7), (x, y, w), upstream)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(ours, theirs, strict=True))
