"""Taps: the right output under the right name, gradients through them, and nothing left behind."""

import pytest
import torch
from kernelbook.models.basic import MLP, SmallCNN
from kernelbook.models.taps import FeatureTap


def generator():
    return torch.Generator().manual_seed(1)


X = torch.rand(6, 12, generator=generator())


def test_a_tap_holds_what_the_module_gave():
    model = MLP([12, 8, 5, 3], generator())
    with FeatureTap(model, ["relu1", "linear2"]) as tap:
        model(X)
    first = model.linear1(X).relu()
    assert torch.equal(tap["relu1"], first) and torch.equal(tap["linear2"], model.linear2(first))
    assert list(tap) == ["relu1", "linear2"] and [v.shape[1] for v in tap.values()] == [8, 5]


def test_a_tap_follows_the_last_pass_and_ends_with_the_block():
    model = MLP([12, 8, 3], generator())
    with FeatureTap(model, "linear1") as tap:
        model(X)
        model(2 * X)
    held = tap["linear1"]
    assert torch.equal(held, model.linear1(2 * X))
    model(3 * X)
    assert tap["linear1"] is held and not model.linear1._forward_hooks


def test_hooks_go_even_after_an_error():
    model = MLP([12, 8, 3], generator())
    with pytest.raises(RuntimeError), FeatureTap(model, ["linear1"]):
        model(torch.rand(2, 7, generator=generator()))
    assert not model.linear1._forward_hooks


def test_gradients_flow_through():
    model = MLP([12, 8, 3], generator())
    with FeatureTap(model, ["linear1"]) as tap:
        model(X)
        tap["linear1"].square().sum().backward()
    assert model.linear1.weight.grad.abs().sum() > 0 and model.linear2.weight.grad is None


def test_nested_modules_and_the_mode_of_the_model():
    model = SmallCNN([4], 3, generator()).eval()
    images = torch.rand(3, 8, 8, generator=generator())
    with FeatureTap(model, ["norm1"]) as tap, torch.no_grad():
        model(images)
        alone = tap["norm1"][:1]
        model(images[:1])
    assert torch.allclose(tap["norm1"], alone, atol=1e-6)


@pytest.mark.parametrize("names", [[], ["relu9"], [""]])
def test_unknown_names_are_refused(names):
    with pytest.raises(ValueError, match=r"names=.*expected some of flatten, linear1"):
        FeatureTap(MLP([12, 8, 3], generator()), names)


def test_an_output_before_any_pass_is_an_error():
    with FeatureTap(MLP([12, 8, 3], generator()), ["linear1"]) as tap, pytest.raises(KeyError, match="no output yet"):
        tap["linear1"]
