"""Patches of photographs that come with scikit-image."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

# File and rows of each texture: the sky is a strip above the cameraman.
TEXTURES = {"brick": ("brick.png", 512), "grass": ("grass.png", 512), "gravel": ("gravel.png", 512), "sky": ("camera.png", 56)}
SPLITS = ("train", "test")


def textures(n: int, size: int, rng: np.random.Generator, *, split: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """n random square patches of brick, grass, gravel and sky each: (4 n, size, size), float32 in [0, 1], and labels 0 to 3.

    split: "train" takes patches from the left halves of the photographs, "test" from the right halves, None from all.
    Raises ValueError for n below 1, patches that do not fit, another split.
    Source: scikit-image's bundled brick, grass and gravel (CC0) and camera (CC0).
    """
    rows = min(height for _, height in TEXTURES.values())
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r}: expected a whole number from 1 upwards")
    if not isinstance(size, int) or not 1 <= size <= rows:
        raise ValueError(f"size={size!r}: expected 1 to {rows} pixels")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split={split!r}: expected None, {' or '.join(map(repr, SPLITS))}")
    patches = []
    for file, height in TEXTURES.values():
        photo = _photo(file)[:height]
        half = photo.shape[1] // 2
        photo = {None: photo, "train": photo[:, :half], "test": photo[:, half:]}[split]
        y = rng.integers(0, photo.shape[0] - size + 1, n)
        x = rng.integers(0, photo.shape[1] - size + 1, n)
        patches.append(np.stack([photo[i : i + size, j : j + size] for i, j in zip(y, x, strict=True)]))
    return torch.from_numpy(np.concatenate(patches)), torch.arange(len(TEXTURES)).repeat_interleave(n)


def _photo(file: str) -> np.ndarray:
    """A bundled grey photograph (h, w) in float32, read without importing scikit-image."""
    from PIL import Image

    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("scikit-image is not installed: `make setup` installs it")
    with Image.open(Path(package.submodule_search_locations[0]) / "data" / file) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255
