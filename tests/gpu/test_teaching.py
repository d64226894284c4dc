"""Vector add, softmax, matrix product, Walsh-Hadamard: their references, and what their launchers refuse."""

import pytest
import scipy.linalg
import torch
from kernelbook.evidence import run
from kernelbook.gpu import walsh_hadamard
from kernelbook.gpu.add import add
from kernelbook.gpu.matmul import matmul
from kernelbook.gpu.registry import normal
from kernelbook.gpu.softmax import softmax
from kernelbook.gpu.walsh_hadamard import fwht, hadamard

BACKENDS = ["reference", pytest.param("triton", marks=pytest.mark.skipif("sys.platform != 'linux'"))]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def draw(*shape, dtype=torch.float64):
    return normal(run.generator("teaching"), dtype, *shape).to(run.device)


@each_backend
def test_softmax_sums_to_one_and_is_torchs(backend):
    x = draw(3, 50)
    y = softmax(x, backend=backend)
    assert torch.allclose(y.sum(-1), torch.ones_like(x[:, 0])) and torch.allclose(y, torch.softmax(x, -1), atol=1e-15)


@each_backend
def test_softmax_of_huge_numbers_is_finite(backend):
    y = softmax(torch.tensor([[1e30, 1e30, 0.0]], device=run.device), backend=backend)
    assert y.tolist() == [[0.5, 0.5, 0.0]]


@each_backend
@pytest.mark.parametrize("n", [1, 2, 16, 64, 512])
def test_transform_is_the_product_with_scipys_matrix(n, backend):
    x = draw(3, n)
    H = torch.tensor(scipy.linalg.hadamard(n), dtype=x.dtype, device=x.device)
    assert torch.equal(hadamard(n, dtype=x.dtype, device=x.device), H)
    y = fwht(x, backend=backend)
    assert torch.allclose(y, x @ H, atol=1e-12) and y.data_ptr() != x.data_ptr()
    assert torch.allclose(fwht(y, backend=backend), n * x, atol=1e-11)


@each_backend
def test_rows_longer_than_a_program_are_transformed_in_two_passes(backend, monkeypatch):
    monkeypatch.setattr(walsh_hadamard, "LONGEST", 8)
    x = draw(2, 128)
    assert torch.allclose(fwht(x, backend=backend), x @ hadamard(128, dtype=x.dtype, device=x.device), atol=1e-12)


@each_backend
def test_transform_can_be_differentiated_twice(backend):
    x = draw(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: fwht(x, backend=backend), x)
    assert torch.autograd.gradgradcheck(lambda x: fwht(x.square(), backend=backend), x)


def test_product_of_halves_is_summed_in_float32():
    a = torch.full((1, 4096), 1.0, dtype=torch.float16, device=run.device)
    b = torch.full((4096, 1), 1.0 + 2**-10, dtype=torch.float16, device=run.device)
    # summed in float16 the total would stop growing at 2048, where one more is half of the last place
    assert matmul(a, b, backend="triton", blocks=(16, 16, 64)).item() == 4100


ONES = torch.ones(3, 4)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: add(ONES, ONES[:2]), r"y has shape \(2, 4\): expected \(3, 4\), as x"),
        (lambda: add(ONES, ONES.double()), "y has dtype torch.float64: expected torch.float32, as x"),
        (lambda: add(ONES.T, ONES.T), r"x has strides \(1, 4\): expected contiguous memory"),
        (lambda: add(ONES.int(), ONES.int()), "x has dtype torch.int32: expected float32 or float64"),
        (lambda: add([1.0], ONES), "x is list: expected a float32 or float64 tensor"),
        (lambda: add(ONES, ONES.clone(), block=48), "block=48: expected a power of two"),
        (lambda: add(ONES, ONES.clone(), backend="gpu"), "backend='gpu': expected one of"),
        (lambda: softmax(torch.ones(2, 0)), r"x has shape \(2, 0\): expected"),
        (lambda: softmax(torch.tensor(1.0)), r"x has shape \(\): expected"),
        (lambda: softmax(torch.ones(1, 40000), backend="triton"), "x has rows of 40000: expected at most 32768 with Triton"),
        (lambda: matmul(ONES, ONES), r"b has shape \(3, 4\): expected \(k, n\) to follow a of shape \(3, 4\)"),
        (lambda: matmul(ONES, torch.ones(4)), r"b has shape \(4,\): expected"),
        (lambda: matmul(ONES, torch.ones(4, 2), precision="fp8"), "precision='fp8': expected one of"),
        (lambda: matmul(ONES, torch.ones(4, 2), blocks=(8, 16, 16)), r"blocks=\(8, 16, 16\): expected three powers of two"),
        (lambda: matmul(ONES.bfloat16(), torch.ones(4, 2).bfloat16(), backend="triton"), "a has dtype torch.bfloat16: expected"),
        (lambda: fwht(torch.ones(2, 12)), r"x has shape \(2, 12\): expected .* a power of two"),
        (lambda: fwht(torch.ones(2, 8).half()), "x has dtype torch.float16: expected float32 or float64"),
    ],
)
def test_a_bad_argument_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
