"""Kernel sums beyond what the registration tests: the CPU path, other libraries, extremes, memory, bad arguments."""

import math
import resource
import subprocess
import sys

import pytest
import sklearn.metrics.pairwise as pairwise
import torch
from kernelbook.evidence import run
from kernelbook.gpu import kernel_sums as module
from kernelbook.gpu.kernel_sums import KERNELS, kernel_sums, kernel_sums_reference
from kernelbook.gpu.registry import KERNELS as REGISTERED
from kernelbook.gpu.registry import normal
from kernelbook.similarity import gram

CASES = REGISTERED["kernel_sums"].cases


def draw(name, *shape, dtype=torch.float64):
    return normal(run.generator(f"kernel sums/{name}"), dtype, *shape)


def value(kernel, x, y, h):
    """One comparison, written out."""
    r = math.dist(x, y) / h
    product = sum(a * b for a, b in zip(x, y, strict=True))
    return {
        "gaussian": math.exp(-r * r / 2),
        "laplacian": math.exp(-r),
        "cauchy": 1 / (1 + r * r),
        "matern32": (1 + math.sqrt(3) * r) * math.exp(-math.sqrt(3) * r),
        "polynomial": (product / h**2 + 1) ** 3,
    }[kernel]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("compute", [kernel_sums, kernel_sums_reference])
def test_the_definition(compute, kernel):
    x, y, w = draw("x", 4, 3), draw("y", 5, 3), draw("w", 5).abs()
    K = torch.tensor([[value(kernel, a, b, 0.8) for b in y.tolist()] for a in x.tolist()], dtype=torch.float64)
    given = dict(kernel=kernel, bandwidth=0.8)
    assert torch.allclose(compute(x, y, **given), K.sum(1), rtol=1e-12)
    assert torch.allclose(compute(x, y, w, **given), K @ w, rtol=1e-12)
    assert torch.allclose(compute(x, y, reduce="squares", **given), (K**2).sum(1), rtol=1e-12)
    if kernel != "polynomial":
        assert torch.allclose(compute(x, y, w, reduce="logsumexp", **given), (K @ w).log(), rtol=1e-12)
        assert torch.allclose(compute(x, y, w, reduce="softmax", **given), K @ w / K.sum(1), rtol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_the_path_on_the_cpu_and_its_gradients(case, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(module, "TILE", 1024)  # many tiles, none of them whole
    given = case.make(run.generator(case.name), dtype)
    exactly = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    names = case.gradients or ("x", "y")
    for inputs in (given, exactly):
        for name in names:
            inputs[name].requires_grad_()
    ours, truth = kernel_sums(**given), kernel_sums_reference(**exactly)
    upstream = draw("upstream", *truth.shape)
    assert ours.dtype == dtype and float((ours.detach() - truth.detach()).abs().max() / truth.detach().abs().max()) < tolerance
    found = torch.autograd.grad(ours, [given[k] for k in names], upstream.to(dtype))
    wanted = torch.autograd.grad(truth, [exactly[k] for k in names], upstream)
    for name, a, b in zip(names, found, wanted, strict=True):
        assert float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) < 10 * tolerance, name


@pytest.mark.parametrize(
    "kernel, reduce", [("gaussian", "softmax"), ("matern32", "logsumexp"), ("cauchy", "sum"), ("polynomial", "sum")]
)
def test_gradients_are_those_of_finite_differences(kernel, reduce):
    x, y, h = draw("x", 3, 2), draw("y", 4, 2), draw("h", 3).abs() + 0.5
    w = draw("w", 4).abs() + 0.5

    def sums(x, y, w, h):
        return kernel_sums(x, y, w, kernel=kernel, reduce=reduce, bandwidth=h)

    assert torch.autograd.gradcheck(sums, [t.requires_grad_() for t in (x, y, w, h)])


@pytest.mark.parametrize("alone", ["x", "y", "weights", "bandwidth"])
@pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=pytest.mark.skipif("sys.platform != 'linux'"))])
def test_one_gradient_alone_is_the_one_among_all(alone, backend):
    given = dict(x=draw("x", 6, 3), y=draw("y", 5, 3), weights=draw("w", 5, 2), bandwidth=draw("h", 6).abs() + 0.5)

    def gradients(names):
        inputs = {k: v.clone().requires_grad_(k in names) for k, v in given.items()}
        kernel_sums(**inputs, reduce="softmax", backend=backend).square().sum().backward()
        return inputs[alone].grad

    assert torch.allclose(gradients([alone]), gradients(list(given)))


def test_the_librarys_gram_functions_and_scikit_learns():
    x, y = draw("x", 30, 4), draw("y", 40, 4)
    assert torch.allclose(kernel_sums(x, y, bandwidth=1.3), gram.gaussian(x, y, bandwidth=1.3).sum(1))
    theirs = gram.polynomial(x, y, degree=2, offset=0.5, scale=1 / 1.3**2).sum(1)
    assert torch.allclose(kernel_sums(x, y, kernel="polynomial", degree=2, offset=0.5, bandwidth=1.3), theirs)
    theirs = torch.tensor(pairwise.rbf_kernel(x, y, gamma=0.5 / 1.3**2)).sum(1)
    assert torch.allclose(kernel_sums(x, y, bandwidth=1.3), theirs)


def test_a_bandwidth_for_each_query_is_a_loop_over_bandwidths():
    x, y, h = draw("x", 6, 2), draw("y", 7, 2), draw("h", 6).abs() + 0.1
    together = kernel_sums(x, y, kernel="laplacian", bandwidth=h)
    apart = torch.cat([kernel_sums(x[i : i + 1], y, kernel="laplacian", bandwidth=float(h[i])) for i in range(6)])
    assert torch.allclose(together, apart)


def test_log_sums_go_on_where_sums_underflow():
    x, y = torch.tensor([[100.0, 0.0]]), draw("y", 50, 2, dtype=torch.float32)
    assert kernel_sums(x, y).item() == 0
    assert -5100 < kernel_sums(x, y, reduce="logsumexp").item() < -4600


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_a_small_bandwidth_finds_the_nearest_neighbor(kernel):
    x, y, w = draw("x", 20, 3, dtype=torch.float32), draw("y", 30, 3, dtype=torch.float32), draw("w", 30, 2, dtype=torch.float32)
    nearest = torch.cdist(x, y).argmin(1)
    found = kernel_sums(x, y, w, kernel=kernel, reduce="softmax", bandwidth=1e-4)
    assert torch.allclose(found, w[nearest], atol=1e-6)


def test_near_points_far_from_the_origin_keep_their_digits():
    """1e4 away, |x|^2 + |y|^2 - 2 x.y in float32 would be off by tens."""
    x = (draw("x", 40, 3) + 1e4).float()
    truth = kernel_sums_reference(x.double(), x.double(), bandwidth=0.5)
    assert float((kernel_sums(x, x, bandwidth=0.5) - truth).abs().max() / truth.max()) < 1e-5


GROWTH = """
import resource, torch
from kernelbook.evidence import run
from kernelbook.gpu.kernel_sums import kernel_sums
torch.set_num_threads(1)
x, y, w = (torch.randn(20000, d, generator=run.generator("memory")) for d in (3, 3, 1))
kernel_sums(x[:500].requires_grad_(), y[:500], w[:500]).sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kernel_sums(x.detach().requires_grad_(), y, w).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_memory_grows_with_the_points_and_not_with_their_pairs():
    assert resource.RUSAGE_SELF == 0
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    # the Gram matrix alone would take 1,600,000 kB
    assert int(done.stdout) < 40_000


X, W = torch.ones(3, 2), torch.ones(4)
Y = torch.ones(4, 2)


@pytest.mark.parametrize(
    "arguments, options, said",
    [
        ((X, Y.double()), {}, "y has dtype torch.float64: expected torch.float32, as x"),
        ((X.half(), Y.half()), {}, "x has dtype torch.float16: expected float32 or float64"),
        ((X, Y[:, ::2].repeat(1, 2).T.contiguous().T), {}, r"y has strides \(1, 4\): expected contiguous"),
        ((X[0], Y), {}, r"x has shape \(2,\): expected \(..., n, d\) with nothing empty"),
        ((X, torch.ones(4, 3)), {}, r"y has shape \(4, 3\): expected \(m, 2\), as x"),
        ((X, torch.ones(0, 2)), {}, r"y has shape \(0, 2\)"),
        ((X, Y), {"kernel": "rbf"}, "kernel='rbf': expected one of"),
        ((X, Y), {"reduce": "mean"}, "reduce='mean': expected one of"),
        ((X, Y), {"bandwidth": 0.0}, "bandwidth=0.0: expected a positive finite number"),
        ((X, Y), {"bandwidth": torch.tensor([1.0, 2.0])}, r"bandwidth has shape \(2,\): expected no axes, or \(3,\)"),
        ((X, Y), {"bandwidth": torch.tensor([1.0, -2.0, 1.0])}, "bandwidth is -2 somewhere: expected positive"),
        ((X, Y, W[:3]), {}, r"weights has shape \(3,\): expected \(4,\), or that and an axis of columns"),
        ((X, Y), {"reduce": "softmax"}, "weights=None with reduce='softmax'"),
        ((X, Y, W), {"reduce": "squares"}, "weights with reduce='squares': expected None"),
        ((X, Y, -W), {"reduce": "logsumexp"}, "weights is -1 somewhere with reduce='logsumexp'"),
        ((X, Y, W[:, None]), {"reduce": "logsumexp"}, r"weights has shape \(4, 1\) with reduce='logsumexp'"),
        ((X, Y, W), {"reduce": "softmax", "kernel": "polynomial"}, "expected a kernel that is never negative"),
        ((X, Y), {"kernel": "polynomial", "degree": 0}, "degree=0: expected a whole number"),
        ((X, Y), {"kernel": "polynomial", "offset": math.nan}, "offset=nan: expected a finite number"),
        ((X, Y), {"bandwidth": "wide"}, "bandwidth='wide': expected a positive finite number"),
        ((X, Y), {"kernel": "polynomial", "offset": "one"}, "offset='one': expected a finite number"),
        ((X, Y), {"block": 16.0}, "block=16.0: expected a power of two"),
        ((X, Y), {"block": 24}, "block=24: expected a power of two from 16 upwards"),
        ((X, Y), {"backend": "cuda"}, "backend='cuda': expected one of"),
    ],
)
def test_a_bad_argument_is_named(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        kernel_sums(*arguments, **options)
