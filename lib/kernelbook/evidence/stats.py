"""Intervals, exponents and searches that turn repeated measurements into a statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def _sample(values: Any, name: str = "values", least: int = 2) -> np.ndarray:
    a = np.asarray(values.tolist() if hasattr(values, "tolist") else values, dtype=float)
    if a.ndim != 1 or len(a) < least:
        raise ValueError(f"{name} has shape {a.shape}: expected one number per repetition, at least {least}")
    if not np.isfinite(a).all():
        raise ValueError(f"{name} holds {a[~np.isfinite(a)][0]}: expected finite numbers")
    return a


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution with `degrees` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def mean_interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of values (n,), n >= 2.  Raises ValueError on a bad shape or level."""
    a = _sample(values)
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}: expected a probability between 0 and 1")
    half = t_quantile((1 + level) / 2, len(a) - 1) * a.std(ddof=1) / np.sqrt(len(a))
    return float(a.mean() - half), float(a.mean() + half)


def prediction_interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval for one further value of the sample values (n,), n >= 2."""
    a = _sample(values)
    half = t_quantile((1 + level) / 2, len(a) - 1) * a.std(ddof=1) * np.sqrt(1 + 1 / len(a))
    return float(a.mean() - half), float(a.mean() + half)


def bootstrap_interval(
    values: Any,
    rng: np.random.Generator,
    statistic: Callable[..., Any] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic(a, axis=-1)` over values (n,), n >= 2."""
    a = _sample(values)
    drawn = statistic(a[rng.integers(len(a), size=(draws, len(a)))], axis=-1)
    lo, hi = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def paired_bootstrap(a: Any, b: Any, rng: np.random.Generator, level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Bootstrap interval of the mean of a - b, where a[i] and b[i] (n,) come from one seed."""
    first, second = _sample(a, "a"), _sample(b, "b")
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b has {len(second)}: expected one pair per seed")
    return bootstrap_interval(first - second, rng, level=level, draws=draws)


@dataclass(frozen=True)
class Exponent:
    """A power law's exponent, and its standard error from the scatter of the points about the line."""

    slope: float
    error: float

    def __str__(self) -> str:
        return f"{self.slope:.3f} ± {self.error:.3f}"


def fitted_exponent(x: Any, y: Any) -> Exponent:
    """Least-squares slope of log y in log x: the exponent a of y ~ x**a.  x, y: (n,) positive, n >= 3."""
    u, v = _sample(x, "x", 3), _sample(y, "y", 3)
    if len(u) != len(v):
        raise ValueError(f"x has {len(u)} values and y has {len(v)}: expected as many")
    if min(u.min(), v.min()) <= 0:
        raise ValueError(f"smallest value {min(u.min(), v.min())}: a power law needs positive x and y")
    u, v = np.log(u) - np.log(u).mean(), np.log(v) - np.log(v).mean()
    slope = float(u @ v / (u @ u))
    return Exponent(slope, float(np.sqrt(((v - slope * u) ** 2).sum() / (len(u) - 2) / (u @ u))))


def smallest_sufficient(enough: Callable[[int], bool], start: int = 1, limit: int = 2**62) -> int:
    """The least n >= start with `enough(n)` true, for a test that stays true once it is: doubling, then bisection.

    Raises ValueError if start < 1, or if `enough(limit)` is not reached.
    """
    if start < 1:
        raise ValueError(f"start={start!r}: expected a whole number from 1 upwards")
    low, high = start - 1, start
    while not enough(high):
        if high >= limit:
            raise ValueError(f"limit={limit!r}: no n up to it was enough")
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
