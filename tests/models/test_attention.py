"""The vision transformer against torch's own layers, and what may be exchanged in it."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.models.attention import Attention, FeedForward, PatchViT
from torch import nn


def test_attention_is_torchs():
    torch_layer = nn.MultiheadAttention(12, 3, batch_first=True)
    ours = Attention(12, 3)
    with torch.no_grad():
        rows = [*torch_layer.in_proj_weight.split(12)]
        for layer, weight in zip((ours.query, ours.key, ours.value), rows, strict=True):
            layer.weight.copy_(weight)
            layer.bias.zero_()
        torch_layer.in_proj_bias.zero_()
        ours.out.load_state_dict(torch_layer.out_proj.state_dict())
    x = torch.randn(2, 5, 12, generator=run.generator("x"))
    assert torch.allclose(ours(x), torch_layer(x, x, x, need_weights=False)[0], atol=1e-6)


def test_tokens_are_patches_row_by_row():
    model = PatchViT(run.generator("w"), width=4, heads=2, depth=1)
    with torch.no_grad():
        model.embed.weight.copy_(torch.eye(4))
        model.positions.zero_()
    X = torch.arange(64.0).view(1, 8, 8)
    assert model.tokens(X)[0, 1].tolist() == [2, 3, 10, 11]
    assert model.tokens(X)[0, 4].tolist() == [16, 17, 24, 25]


def test_the_generator_decides_every_weight():
    a, b, c = (PatchViT(run.generator(name)) for name in ("w", "w", "v"))
    X = torch.rand(3, 8, 8, generator=run.generator("X"))
    assert a(X).shape == (3, 10) and torch.equal(a(X), b(X)) and not torch.equal(a(X), c(X))
    assert torch.equal(a(X), a(X[:, None]))


def test_parts_can_be_exchanged():
    class Mean(nn.Module):
        def __init__(self, width, heads):
            super().__init__()

        def forward(self, x):
            return x.mean(1, keepdim=True).expand_as(x)

    model = PatchViT(run.generator("w"), attention=Mean, mlp=lambda width: nn.Identity(), norm=lambda width: nn.Identity())
    assert not [m for m in model.modules() if isinstance(m, (Attention, FeedForward, nn.LayerNorm))]
    assert model(torch.ones(2, 8, 8)).shape == (2, 10)


def test_it_learns():
    from kernelbook.data.digits import digits
    from kernelbook.evidence.training import accuracy, fit

    X, y = digits(size=8, split="train")
    model = PatchViT(run.generator("w"), depth=2)
    before = accuracy(model, X[:200], y[:200])

    def loss(m, X, y):
        return nn.functional.cross_entropy(m(X), y)

    fit(model, (X, y), loss, steps=150, generator=run.generator("fit"), lr=3e-3, batch=64)
    assert accuracy(model, X[:200], y[:200]) > max(0.7, before)


@pytest.mark.parametrize(
    "arguments, words", [({"patch": 3}, "patch=3: expected a divisor of the size, 8"), ({"heads": 5}, "heads=5")]
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        PatchViT(run.generator("w"), **arguments)
