"""The small networks: shapes, names, named initializations, and one door for their randomness."""

import math

import pytest
import torch
from kernelbook.models.basic import MLP, SmallCNN, SmallResNet, initialize
from torch import nn


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(5, 16, 16, generator=generator(2))
MODELS = {
    "mlp": lambda g, **o: MLP([256, 32, 32, 10], g, **o),
    "cnn": lambda g, **o: SmallCNN([4, 6, 8], 10, g, **o),
    "cnn-all-positions": lambda g, **o: SmallCNN([4, 6, 8], 10, g, size=16, hidden=20, **o),
    "resnet": lambda g, **o: SmallResNet([4, 6], 10, g, blocks=2, **o),
    "resnet-all-positions": lambda g, **o: SmallResNet([4, 6], 10, g, size=16, **o),
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@each_model
def test_logits_for_images_with_and_without_a_channel_axis(make):
    model = make(generator()).eval()
    assert model(IMAGES).shape == (5, 10)
    assert torch.allclose(model(IMAGES), model(IMAGES[:, None]), atol=1e-6)


@each_model
def test_weights_follow_the_generator_and_nothing_else(make):
    torch.manual_seed(3)
    first = make(generator()).state_dict()
    torch.manual_seed(4)
    again, other = make(generator()).state_dict(), make(generator(7)).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@each_model
def test_making_a_model_leaves_the_global_stream_alone(make):
    before = torch.get_rng_state()
    make(generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("init", "spread"), [("he", math.sqrt(2 / 300)), ("lecun", math.sqrt(1 / 300)), ("torch", 1 / math.sqrt(900))]
)
def test_initializations_have_the_spread_of_their_name(init, spread):
    layer = MLP([300, 400, 10], generator(), init=init).linear1
    assert layer.weight.std().item() == pytest.approx(spread, rel=0.02)
    assert (layer.bias == 0).all() == (init != "torch")


def test_he_keeps_the_signal_and_torchs_own_shrinks_it():
    X = torch.randn(200, 256, generator=generator(5))
    sizes = [256] + [256] * 8 + [10]
    hidden = {init: MLP(sizes, generator(), init=init)[:-1](X).square().mean().item() for init in ("he", "torch")}
    assert 0.3 < hidden["he"] < 3 and hidden["torch"] < 0.01


def test_fan_in_of_a_convolution_counts_its_positions():
    model = SmallCNN([64], 10, generator(), in_channels=8, kernel_size=5, norm=False)
    assert model.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (8 * 25)), rel=0.03)


def test_initialize_draws_again():
    model = MLP([8, 8, 2], generator())
    initialize(model, "he", generator(9))
    assert torch.equal(model.linear1.weight, MLP([8, 8, 2], generator(9)).linear1.weight)


def test_names_count_from_one():
    names = [n for n, _ in MLP([4, 3, 3, 2], generator(), dropout=0.5).named_children()]
    assert names == ["flatten", "linear1", "relu1", "dropout1", "linear2", "relu2", "dropout2", "linear3"]
    cnn = [n for n, _ in SmallCNN([4, 6], 10, generator(), size=16, hidden=8).named_children()]
    assert " ".join(cnn) == "conv1 norm1 relu1 pool1 conv2 norm2 relu2 flatten hidden hidden_relu linear"


def test_dropout_only_in_training():
    model = MLP([256, 64, 10], generator(), dropout=0.5)
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    assert torch.equal(model(IMAGES), model(IMAGES))


def test_pools_and_norm_are_what_was_asked_for():
    model = SmallCNN([4, 6, 8], 10, generator(), pools=1, norm=False)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(nn.MaxPool2d) == 1 and kinds.count(nn.BatchNorm2d) == 0 and model.conv1.bias is not None


def test_the_mean_over_positions_forgets_the_place():
    model = SmallCNN([4, 6], 10, generator(), pools=0).eval()
    image = torch.zeros(1, 16, 16)
    image[:, 6:9, 6:9] = torch.rand(3, 3, generator=generator(8))
    assert torch.allclose(model(image), model(image.roll((2, -1), (1, 2))), atol=1e-6)
    everywhere = SmallCNN([4, 6], 10, generator(), pools=0, size=16).eval()
    assert not torch.allclose(everywhere(image), everywhere(image.roll((2, -1), (1, 2))), atol=1e-3)


def test_a_skip_adds_the_input_and_changes_no_weight():
    block = SmallResNet([4], 10, generator()).block1
    X = torch.rand(2, 1, 8, 8, generator=generator(6))
    nn.init.zeros_(block.conv2.weight)
    block.eval()
    assert torch.allclose(block(X)[:, :1], X) and not block(X)[:, 1:].any()
    plain, skipping = (SmallResNet([4, 4], 10, generator(), skip=s).state_dict() for s in (False, True))
    assert all(torch.equal(plain[k], skipping[k]) for k in plain)


def test_gradients_reach_every_parameter():
    for make in MODELS.values():
        model = make(generator())
        model(IMAGES).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda g: MLP([10], g), "sizes="),
        (lambda g: MLP([10, 0, 2], g), "sizes="),
        (lambda g: MLP([10, 2], g, init="best"), "init='best'"),
        (lambda g: MLP([10, 2, 2], g, dropout=1.0), "dropout=1.0"),
        (lambda g: SmallCNN([], 10, g), "channels="),
        (lambda g: SmallCNN([4], 10, g, kernel_size=4), "kernel_size=4"),
        (lambda g: SmallCNN([4, 4], 10, g, pools=3), "pools=3"),
        (lambda g: SmallCNN([4, 4, 4], 10, g, size=3), "size=3"),
        (lambda g: SmallResNet([4], 10, g, blocks=0), "classes, blocks="),
        (lambda g: SmallResNet([4, 4], 10, g, size=2), "size=2"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=r"expected") as error:
        make(generator())
    assert words in str(error.value)
