"""Texture patches: classes, halves that do not overlap, and bad arguments."""

import numpy as np
import pytest
import torch
from kernelbook.data.photos import textures


def rng(seed=1):
    return np.random.default_rng(seed)


def test_shapes_ranges_and_labels():
    images, labels = textures(7, 16, rng())
    assert images.shape == (28, 16, 16) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and labels.tolist() == [c for c in range(4) for _ in range(7)]


def test_same_rng_same_patches():
    assert torch.equal(textures(3, 8, rng())[0], textures(3, 8, rng())[0])
    assert not torch.equal(textures(3, 8, rng())[0], textures(3, 8, rng(2))[0])


def test_patches_are_cut_from_the_photographs():
    from skimage import data

    photos = [data.brick(), data.grass(), data.gravel(), data.camera()[:56]]
    for image, label in zip(*textures(2, 9, rng()), strict=True):
        patch = (image * 255).round().to(torch.uint8).numpy()
        windows = np.lib.stride_tricks.sliding_window_view(photos[label], (9, 9))
        corners = np.argwhere(windows[..., 0, 0] == patch[0, 0])
        assert any((windows[i, j] == patch).all() for i, j in corners)


def test_halves_do_not_overlap():
    pixels = {s: {tuple(p.flatten().tolist()) for p in textures(300, 12, rng(), split=s)[0][:900]} for s in ("train", "test")}
    assert not pixels["train"] & pixels["test"]


def test_the_sky_is_flat_and_grass_is_not():
    images, labels = textures(50, 16, rng())
    spread = images.flatten(1).std(1)
    assert spread[labels == 3].median() < 0.02 < 0.1 < spread[labels == 1].median()


@pytest.mark.parametrize(
    ("n", "size", "split", "words"),
    [(0, 8, None, "n=0"), (1, 0, None, "size=0"), (1, 57, None, "size=57"), (1, 8, "left", "split='left'")],
)
def test_bad_arguments_are_named(n, size, split, words):
    with pytest.raises(ValueError, match="expected") as error:
        textures(n, size, rng(), split=split)
    assert words in str(error.value)
