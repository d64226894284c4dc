"""Point clouds made by rule, with the distances that are true along them: a rolled-up strip and a branching tree."""

import math

import numpy as np
import torch


def swiss_roll(
    n: int, rng: np.random.Generator, *, noise: float = 0.0, dimension: int = 3, height: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n points of a strip rolled up, turned at random into `dimension` dimensions, with Gaussian noise in each of them.

    The roll is the spiral of radius s at the angle s, for s = 3 pi / 2 (1 + 2u) with u uniform; its turns lie 2 pi apart, and
    it is about 90 long, `height` is its width.  noise: standard deviation in each dimension.
    Returns points (n, dimension), unrolled coordinates (n, 2), that is arc length and height, and the geodesic distances
    (n, n) of the points without noise: Euclidean in the unrolled coordinates.  All float64.
    Raises ValueError for n below 1, dimension below 3, a negative noise, a height that is not positive.
    Source: heat-geodesic, section on toy data, as its released code draws it.
    """
    _whole("n", n, 1)
    _whole("dimension", dimension, 3)
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise={noise!r}: expected a finite number from 0 upwards")
    if not 0 < height < math.inf:
        raise ValueError(f"height={height!r}: expected a positive finite number")
    s = 1.5 * math.pi * (1 + 2 * rng.random(n))
    across = height * rng.random(n)
    rolled = np.stack([s * np.cos(s), across, s * np.sin(s)], 1)
    frame, triangle = np.linalg.qr(rng.standard_normal((dimension, 3)))
    frame = frame * np.sign(np.diag(triangle))  # without the signs the frame would not be uniform
    points = rolled @ frame.T + noise * rng.standard_normal((n, dimension))
    unrolled = np.stack([0.5 * (s * np.sqrt(s**2 + 1) + np.arcsinh(s)), across], 1)
    geodesic = np.sqrt(np.square(unrolled[:, None] - unrolled).sum(2))
    return torch.from_numpy(points), torch.from_numpy(unrolled), torch.from_numpy(geodesic)


def branching_tree(
    branches: int, length: int, rng: np.random.Generator, *, noise: float = 0.0, dimension: int = 10
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A tree of random walks, `branches` of `length` points each: all but the first start at a random earlier point.

    Steps are uniform in [-1, 1]^dimension.  noise: standard deviation in each dimension.
    Returns points (branches x length, dimension) in float64, the branch of each point (branches x length,) in int64, and the
    distances along the noiseless tree (n, n) in float64: sums of lengths of steps.
    Raises ValueError for branches, length or dimension below 1, and a negative noise.
    Source: Moon and others (2019), the tree that PHATE is shown on; the distances are this book's.
    """
    for name, value in (("branches", branches), ("length", length), ("dimension", dimension)):
        _whole(name, value, 1)
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise={noise!r}: expected a finite number from 0 upwards")
    n = branches * length
    points, geodesic = np.zeros((n, dimension)), np.zeros((n, n))
    for i in range(1, n):
        parent = i - 1 if i % length else int(rng.integers(i))
        step = rng.uniform(-1, 1, dimension)
        points[i] = points[parent] + step
        geodesic[i, :i] = geodesic[:i, i] = geodesic[parent, :i] + np.linalg.norm(step)
    labels = torch.arange(branches).repeat_interleave(length)
    return torch.from_numpy(points + noise * rng.standard_normal(points.shape)), labels, torch.from_numpy(geodesic)


def _whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number from {least} upwards")
