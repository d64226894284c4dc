"""Grids, codes, gradients through rounding, and the guard against floating-point numbers."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.models.quantize import FloatingPointUsed, NoFloat, fake_quantize, quantize, straight_through, symmetric_scale


def draw(*shape):
    return torch.randn(*shape, generator=run.generator("quantize"), dtype=torch.float64)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_the_largest_number_gets_the_last_code(bits):
    x = draw(50)
    codes = quantize(x, symmetric_scale(x, bits), bits)
    assert codes.dtype == torch.int32 and int(codes.abs().max()) == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_costs_at_most_half_a_step(bits):
    x = draw(1000)
    step = symmetric_scale(x, bits)
    error = (fake_quantize(x, step, bits) - x).abs().max()
    assert 0.4 * step < error <= 0.5 * step * (1 + 1e-12)


def test_an_axis_keeps_its_own_scale():
    x = draw(3, 4, 5) * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)[:, None, None]
    scale = symmetric_scale(x, 8, axis=0)
    assert scale.shape == (3, 1, 1) and torch.allclose(scale.flatten() * 127, x.abs().amax((1, 2)))
    assert torch.equal(symmetric_scale(x, 8, axis=-3), scale)
    assert float(symmetric_scale(torch.zeros(4), 8)) == 1


def test_values_and_gradients_are_torchs():
    x, y = (draw(200).float().requires_grad_() for _ in range(2))
    scale = 0.9 * float(symmetric_scale(x.detach(), 8))
    ours, theirs = fake_quantize(x, scale, 8), torch.fake_quantize_per_tensor_affine(y, scale, 0, -127, 127)
    ours.sum().backward(), theirs.sum().backward()
    assert torch.allclose(ours, theirs) and torch.equal(x.grad, y.grad) and x.grad.min() == 0
    assert torch.allclose(quantize(x.detach(), scale, 8) * scale, theirs)


def test_gradients_pass_inside_the_grid_alone():
    x = torch.tensor([-3.0, -0.4, 0.2, 0.9, 5.0], requires_grad=True)
    y = fake_quantize(x, 1.0, 2)
    y.backward(torch.full((5,), 7.0))
    assert y.tolist() == [-1, 0, 0, 1, 1] and x.grad.tolist() == [0, 7, 7, 7, 0]


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    x = torch.tensor([0.3, -0.2], requires_grad=True)
    y = straight_through(torch.sign(x), 2 * x)
    y.sum().backward()
    assert y.tolist() == [1, -1] and x.grad.tolist() == [2, 2]


def test_the_guard_lets_integers_pass_and_counts_them():
    x = torch.arange(5)
    with NoFloat() as guard:
        y = (x * 3 >> 1) + x.max()
    assert y.dtype == torch.int64 and guard.operations == 4


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x / 2,
        lambda x: x.float(),
        lambda x: torch.zeros(3),
        lambda x: x * 0.5,
        lambda x: torch.stack([torch.ones(2), torch.ones(2)]),
        lambda x: torch.arange(5.0).sum() > 1,
    ],
)
def test_the_guard_finds_floating_point(act):
    with pytest.raises(FloatingPointUsed, match=r"takes or gives torch.float(32|64): expected integers alone"), NoFloat():
        act(torch.arange(5))


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: quantize(draw(2), 1.0, 1), "bits=1: expected a whole number from 2 to 16"),
        (lambda: fake_quantize(draw(2), 1.0, 33), "bits=33"),
        (lambda: symmetric_scale(draw(2), 8, axis=1), "axis=1: expected one of the 1 axes of x"),
    ],
)
def test_a_bad_argument_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
