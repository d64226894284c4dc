"""Handwritten digits: 1,797 scans of 8 x 8 pixels that come with scikit-learn, the data set of about fifty chapters."""

from collections.abc import Iterable

import torch

TEST_SIZE = 797
SPLITS = ("train", "test")


def digits(size: int = 8, split: str | None = None, *, classes: Iterable[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, size, size) in float32 from 0 (paper) to 1 (ink), and their labels (n,) in int64.

    size: pixels a side; 8 as scanned, other sizes by bilinear interpolation (antialiased where smaller).
    split: None for all 1,797 in scikit-learn's order, "train" for 1,000 of them, "test" for the other 797.
    The split is fixed: of the images sorted by class (stably), those at even steps of 1797 / 797 are the test set, so
    that the classes stay balanced.  Writers occur in both parts.
    classes: keep only these digits; the labels stay 0 to 9.
    Raises ValueError for a size below 1, another split, a class that is not a digit or none at all.
    Source: Alpaydin and Kaynak (1998), the test part of optdigits; scikit-learn's load_digits.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size={size!r}: expected a whole number of pixels, from 1 upwards")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split={split!r}: expected None, {' or '.join(map(repr, SPLITS))}")
    images, labels = _scans()
    keep = _wanted(labels, classes)
    if split is not None:
        keep &= _is_test(labels) == (split == "test")
    return _resized(images[keep], size), labels[keep]


def on_canvas(images: torch.Tensor, size: int, noise: float, generator: torch.Generator) -> torch.Tensor:
    """Each image (n, h, w) at a random place of its own on an empty canvas with Gaussian noise all over: (n, size, size).

    noise: standard deviation; the noise may leave [0, 1].  generator: draws the places, then the noise.
    Raises ValueError where the images are not (n, h, w), do not fit the canvas, or the noise is negative.
    """
    if images.dim() != 3:
        raise ValueError(f"images have shape {tuple(images.shape)}: expected (n, h, w)")
    n, h, w = images.shape
    if not isinstance(size, int) or size < max(h, w):
        raise ValueError(f"size={size!r}: expected at least the {h} x {w} pixels of the images")
    if not noise >= 0:
        raise ValueError(f"noise={noise!r}: expected a standard deviation from 0 upwards")
    top = torch.randint(size - h + 1, (n, 1, 1), generator=generator)
    left = torch.randint(size - w + 1, (n, 1, 1), generator=generator)
    canvas = noise * torch.randn(n, size, size, generator=generator)
    canvas[torch.arange(n)[:, None, None], top + torch.arange(h)[:, None], left + torch.arange(w)] += images
    return canvas


def _scans() -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels, as scikit-learn ships them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.tensor(bunch.images / 16, dtype=torch.float32), torch.tensor(bunch.target, dtype=torch.int64)


def _is_test(labels: torch.Tensor) -> torch.Tensor:
    """Which images (n,) are in the test set."""
    n = len(labels)
    chosen = torch.diff(torch.arange(n + 1) * TEST_SIZE // n).bool()
    marks = torch.empty(n, dtype=torch.bool)
    marks[labels.argsort(stable=True)] = chosen
    return marks


def _wanted(labels: torch.Tensor, classes: Iterable[int] | None) -> torch.Tensor:
    """Which images (n,) show one of the classes."""
    if classes is None:
        return torch.ones(len(labels), dtype=torch.bool)
    chosen = list(classes)
    if not chosen or any(c not in range(10) for c in chosen):
        raise ValueError(f"classes={chosen!r}: expected one or more of the digits 0 to 9")
    return torch.isin(labels, torch.tensor(chosen))


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    if size == images.shape[-1]:
        return images
    batch = torch.nn.functional.interpolate(images.unsqueeze(1), (size, size), mode="bilinear", antialias=True)
    return batch.squeeze(1).clamp(0, 1)
