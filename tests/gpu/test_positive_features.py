"""Positive features beyond what their registration tests: the kernel they stand for, float16's end, bad arguments."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.positive_features import positive_features
from kernelbook.similarity import random_features


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name)).to(run.device)


def test_products_of_features_are_exponentials_of_products():
    x, z = draw("x", 5, 3) / 2, draw("z", 4, 3) / 2
    g = draw("g", 200_000, 3)
    a, b = positive_features(x, g), positive_features(z, g)
    assert torch.allclose(a @ b.T, torch.exp(x @ z.T), rtol=0.05)


def test_both_forms_in_the_library_agree():
    x, g = draw("x", 5, 3), draw("g", 40, 3)
    assert torch.allclose(positive_features(x, g), random_features.positive_features(x, g), rtol=1e-6)


def test_gradients_of_one_argument_alone():
    x, g = draw("x", 5, 3).requires_grad_(), draw("g", 40, 3)
    positive_features(x, g, backend="triton", blocks=(16, 16, 16)).sum().backward()
    triton = x.grad.clone()
    x.grad = None
    positive_features(x, g).sum().backward()
    assert torch.allclose(triton, x.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(x=torch.zeros(3), directions=torch.zeros(2, 3)), "expected .n, d. and .m, d."),
        (dict(x=torch.zeros(3, 2), directions=torch.zeros(2, 3)), "expected .n, d. and .m, d."),
        (dict(x=torch.zeros(3, 2), directions=torch.zeros(0, 2)), "m at least 1"),
        (dict(x=torch.zeros(3, 2).double(), directions=torch.zeros(2, 2)), "x has dtype torch.float64"),
        (dict(x=torch.zeros(3, 2), directions=torch.zeros(2, 2), blocks=(16, 16, 8)), "three powers of two from 16"),
        (dict(x=torch.zeros(3, 2), directions=torch.zeros(2, 2), backend="cuda"), "backend='cuda'"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        positive_features(**arguments)
