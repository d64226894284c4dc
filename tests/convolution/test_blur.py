"""Blur and transfer functions against SciPy, brute force and closed forms."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from kernelbook.convolution.blur import gaussian_blur, gaussian_kernel, transfer_function
from kernelbook.evidence import run

SCIPY = {"zero": "constant", "wrap": "wrap", "reflect": "reflect"}


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7])
def test_kernel_is_scipys(sigma):
    impulse = np.zeros(41)
    impulse[20] = 1
    expected = scipy.ndimage.gaussian_filter1d(impulse, sigma, mode="constant")
    k = gaussian_kernel(sigma, dtype=torch.float64).numpy()
    assert np.allclose(np.pad(k, 20 - len(k) // 2), expected, atol=1e-15)


def test_kernel_radius_and_mass():
    k = gaussian_kernel(2.0, radius=3, dtype=torch.float64)
    assert k.shape == (7,) and abs(float(k.sum()) - 1) < 1e-15
    assert abs(float(k[4] / k[3]) - math.exp(-1 / 8)) < 1e-15


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (16, 33)])
@pytest.mark.parametrize("sigma", [0.8, 3.0])
def test_blur_is_scipys(boundary, shape, sigma):
    image = draw("image", *shape)
    expected = scipy.ndimage.gaussian_filter(image.numpy(), sigma, mode=SCIPY[boundary])
    assert np.allclose(gaussian_blur(image, sigma, boundary=boundary).numpy(), expected, atol=1e-13)


def test_blur_keeps_axes_and_dtype():
    images = draw("images", 2, 3, 9, 8).float()
    y = gaussian_blur(images, 1.5)
    assert y.shape == images.shape and y.dtype == torch.float32
    assert torch.allclose(y[1, 2], gaussian_blur(images[1, 2], 1.5), atol=1e-6)


def test_blur_has_a_gradient():
    image = draw("image", 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, 0.9), (image,))


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (1, 2)])
@pytest.mark.parametrize("shape", [(6, 9), (7, 4)])
def test_transfer_function_is_circular_convolution(size, shape):
    kernel, image = draw("kernel", *size), draw("image", *shape)
    expected = torch.zeros_like(image)
    for a in range(size[0]):
        for b in range(size[1]):
            expected += kernel[a, b] * image.roll((a - size[0] // 2, b - size[1] // 2), (0, 1))
    found = torch.fft.ifft2(torch.fft.fft2(image) * transfer_function(kernel, shape)).real
    assert torch.allclose(found, expected, atol=1e-12)


def test_a_long_kernel_is_periodized():
    kernel = draw("kernel", 23)
    folded = torch.zeros(5, dtype=torch.float64)
    for place, weight in enumerate(kernel):
        folded[(place - 11) % 5] += weight
    assert torch.allclose(transfer_function(kernel, (5,)), torch.fft.fft(folded), atol=1e-12)


def test_transfer_function_of_a_box_and_of_a_stack():
    box = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    dft = transfer_function(box, (8, 8))
    w = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    side = (1 + 2 * w.cos()) / 3
    assert torch.allclose(dft.real, side[:, None] * side, atol=1e-14) and dft.imag.abs().max() < 1e-14
    stack = transfer_function(torch.stack([box, 2 * box]), (8, 8))
    assert torch.allclose(stack[1], 2 * dft)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_sigma_is_named(sigma):
    with pytest.raises(ValueError, match=f"sigma={sigma}: expected a positive"):
        gaussian_kernel(sigma)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: gaussian_kernel(1.0, radius=-1), "radius=-1: expected"),
        (lambda: gaussian_blur(torch.zeros(5), 1.0), r"image has shape \(5,\): expected"),
        (lambda: gaussian_blur(torch.zeros(0, 5), 1.0), r"image has shape \(0, 5\): expected"),
        (lambda: gaussian_blur(torch.zeros(5, 5, dtype=torch.uint8), 1.0), "image has dtype torch.uint8: expected"),
        (lambda: gaussian_blur(torch.zeros(5, 5), 1.0, boundary="mirror"), "boundary='mirror': expected one of"),
        (lambda: transfer_function(torch.ones(3), ()), r"shape=\(\): expected one size"),
        (lambda: transfer_function(torch.ones(3), (4, 0)), r"shape=\(4, 0\): expected one size"),
        (lambda: transfer_function(torch.ones(3), (4, 4)), r"kernel has shape \(3,\) .*: expected"),
        (lambda: transfer_function(torch.ones(3, 3, dtype=torch.int64), (4, 4)), "dtype torch.int64: expected"),
    ],
)
def test_a_bad_argument_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
