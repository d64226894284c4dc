"""Rendered characters: ink, framing, fonts, and one door for their randomness."""

import numpy as np
import pytest
import torch
from kernelbook.data.shapes import FONTS, glyphs


def rng(seed=1):
    return np.random.default_rng(seed)


def test_shapes_ranges_and_labels():
    images, labels = glyphs("AbQ", 4, 16, rng())
    assert images.shape == (12, 16, 16) and images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.min() == 0 and images.max() <= 1 and labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (images.amax(dim=(1, 2)) > 0.5).all()


def test_same_rng_same_images_other_rng_others():
    first, again, other = (glyphs("AB", 5, 12, rng(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_ink_fills_the_frame_but_for_the_margin():
    images, _ = glyphs("HW", 30, 16, rng(), jitter=0)
    rows, columns = (images.amax(dim=d) > 0.05 for d in (2, 1))
    assert ((rows[:, 0] & rows[:, -1]) | (columns[:, 0] & columns[:, -1])).all()
    loose, _ = glyphs("HW", 30, 16, rng(), jitter=3)
    assert loose.mean() < images.mean()


def test_without_turns_each_font_gives_one_image():
    images, _ = glyphs("g", 20, 16, rng(), fonts=["DejaVuSans"], rotation=0, shear=0, jitter=0)
    assert len(images.flatten(1).unique(dim=0)) == 1
    turned, _ = glyphs("g", 20, 16, rng(), fonts=["DejaVuSans"], jitter=0)
    assert len(turned.flatten(1).unique(dim=0)) == 20


def test_rotation_turns():
    upright, _ = glyphs("l", 1, 32, rng(), fonts=["DejaVuSans"], rotation=0, shear=0, jitter=0)
    wide = max(
        glyphs("l", 1, 32, rng(s), fonts=["DejaVuSans"], rotation=90, shear=0, jitter=0)[0].sum(1).gt(1).sum() for s in range(9)
    )
    assert upright.sum(1).gt(1).sum() < 12 < wide


@pytest.mark.parametrize("font", FONTS)
def test_every_font_draws_letters_and_digits_that_differ(font):
    images, _ = glyphs("AaB8", 1, 16, rng(), fonts=[font], rotation=0, shear=0, jitter=0)
    assert len(images.flatten(1).unique(dim=0)) == 4 and (images.mean(dim=(1, 2)) > 0.05).all()


def test_classes_are_learnable():
    (X, y), (Z, z) = glyphs("HOT", 30, 16, rng(1)), glyphs("HOT", 20, 16, rng(2))
    means = torch.stack([X[y == c].mean(0) for c in range(3)]).flatten(1)
    right = (torch.cdist(Z.flatten(1), means).argmin(1) == z).float().mean()
    assert right > 0.8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(characters=""), "characters=''"),
        (dict(characters=["ab"]), "characters="),
        (dict(n=0), "n=0"),
        (dict(size=0), "size=0"),
        (dict(jitter=-1), "jitter=-1"),
        (dict(jitter=8), "jitter=8"),
        (dict(fonts=["Comic"]), "fonts=['Comic']"),
        (dict(fonts=[]), "fonts=[]"),
    ],
)
def test_bad_arguments_are_named(options, words):
    given = dict(characters="A", n=1, size=16, rng=rng()) | options
    with pytest.raises(ValueError, match="expected") as error:
        glyphs(**given)
    assert words in str(error.value)
