"""Toeplitz and circulant matrices against brute force, SciPy and each other."""

import numpy as np
import pytest
import scipy.linalg
import torch
from kernelbook.convolution.toeplitz import toeplitz_matmul, toeplitz_matrix
from kernelbook.evidence import run

CASES = [(1, 1, 0), (3, 5, 1), (4, 7, 2), (5, 1, 2), (7, 64, 0), (129, 33, 64), (40, 13, 39), (13, 13, 3)]


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=dtype)


def brute_force(k, n, center, boundary):
    matrix = torch.zeros(n, n, dtype=k.dtype)
    for i in range(n):
        for j in range(n):
            for place, weight in enumerate(k):
                lag = place - center
                if i - j == lag or (boundary == "wrap" and (i - j - lag) % n == 0):
                    matrix[i, j] += weight
    return matrix


@pytest.mark.parametrize("boundary", ["zero", "wrap"])
@pytest.mark.parametrize("length, n, center", CASES)
def test_matrix_is_its_definition(length, n, center, boundary):
    k = draw("k", length)
    found = toeplitz_matrix(k, n, center=center, boundary=boundary)
    assert torch.allclose(found, brute_force(k, n, center, boundary), atol=1e-14)


@pytest.mark.parametrize("boundary", ["zero", "wrap"])
@pytest.mark.parametrize("length, n, center", CASES)
def test_product_by_fft_is_the_product(length, n, center, boundary):
    k, x = draw("k", length), draw("x", 3, n)
    dense = x @ toeplitz_matrix(k, n, center=center, boundary=boundary).T
    assert torch.allclose(toeplitz_matmul(k, x, center=center, boundary=boundary), dense, atol=1e-12)


def test_matrix_is_scipys():
    k = draw("k", 13)
    column, row = k[6:].numpy(), k[:7].flip(0).numpy()
    assert np.array_equal(toeplitz_matrix(k, 7).numpy(), scipy.linalg.toeplitz(column, row))
    ring = draw("ring", 9)
    circulant = scipy.linalg.circulant(ring.numpy())
    assert np.array_equal(toeplitz_matrix(ring, 9, center=0, boundary="wrap").numpy(), circulant)


def test_product_is_scipys():
    k, x = draw("k", 21), draw("x", 11)
    expected = scipy.linalg.matmul_toeplitz((k[10:].numpy(), k[:11].flip(0).numpy()), x.numpy())
    assert np.allclose(toeplitz_matmul(k, x).numpy(), expected, atol=1e-12)


def test_zero_boundary_convolves_as_numpy_does():
    k, x = draw("k", 5), draw("x", 12)
    assert np.allclose(toeplitz_matmul(k, x).numpy(), np.convolve(x.numpy(), k.numpy(), mode="same"), atol=1e-13)


def test_leading_axes_broadcast_and_single_precision_stays():
    k, x = draw("k", 4, 1, 9, dtype=torch.float32), draw("x", 2, 4, 6, 15, dtype=torch.float32)
    y = toeplitz_matmul(k, x)
    assert y.shape == x.shape and y.dtype == torch.float32
    dense = torch.einsum("hij,bhfj->bhfi", toeplitz_matrix(k[:, 0], 15), x)
    assert torch.allclose(y, dense, atol=1e-5)


@pytest.mark.parametrize("boundary", ["zero", "wrap"])
def test_both_arguments_have_gradients(boundary):
    k, x = draw("k", 5).requires_grad_(), draw("x", 2, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda k, x: toeplitz_matmul(k, x, boundary=boundary), (k, x))


@pytest.mark.parametrize(
    "arguments, options, said",
    [
        ((torch.zeros(0), 3), {}, r"k has shape \(0,\): expected at least one weight"),
        ((torch.ones(3), 0), {}, "n=0: expected at least one position"),
        ((torch.ones(3), 4), {"boundary": "reflect"}, "boundary='reflect': expected one of"),
        ((torch.ones(3), 4), {"center": 3}, "center=3: expected an index into the 3 weights"),
        ((torch.ones(3), 4), {"center": -1}, "center=-1: expected an index"),
    ],
)
def test_a_bad_argument_is_named(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        toeplitz_matrix(*arguments, **options)


def test_product_refuses_mixed_and_whole_numbers():
    with pytest.raises(ValueError, match=r"dtypes torch\.float32 and torch\.float64: expected both"):
        toeplitz_matmul(torch.ones(3), torch.ones(4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"dtypes torch\.int64"):
        toeplitz_matmul(torch.ones(3, dtype=torch.int64), torch.ones(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="n=0: expected at least one position"):
        toeplitz_matmul(torch.ones(3), torch.ones(2, 0))
