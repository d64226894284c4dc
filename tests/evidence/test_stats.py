import numpy as np
import pytest
from kernelbook.evidence import run, stats
from scipy import stats as scipy_stats


def test_mean_interval_is_students():
    a = run.rng("a").normal(size=7)
    expected = scipy_stats.t.interval(0.9, 6, loc=a.mean(), scale=scipy_stats.sem(a))
    assert stats.mean_interval(a, 0.9) == pytest.approx(expected)


def test_intervals_cover_as_often_as_they_say():
    rng = run.rng("coverage")
    draws = rng.normal(size=(600, 8))
    mean = np.mean([lo < 0 < hi for lo, hi in map(stats.mean_interval, draws)])
    next_value = rng.normal(size=600)
    ahead = np.mean([lo < x < hi for (lo, hi), x in zip(map(stats.prediction_interval, draws), next_value, strict=True)])
    for covered in (mean, ahead):
        assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 600)


def test_bootstrap_agrees_with_students_interval_on_a_large_sample():
    a = run.rng("bootstrap").normal(size=400)
    assert stats.bootstrap_interval(a, run.rng("draws")) == pytest.approx(stats.mean_interval(a), abs=0.02)


def test_bootstrap_of_a_median_is_not_that_of_the_mean():
    a = np.r_[np.zeros(30), np.full(10, 100.0)]
    lo, hi = stats.bootstrap_interval(a, run.rng("draws"), statistic=np.median)
    assert (lo, hi) == (0, 0)


def test_pairing_takes_out_what_the_pairs_share():
    rng = run.rng("pairs")
    shared = rng.normal(scale=10, size=30)
    lo, hi = stats.paired_bootstrap(shared + 1 + 0.1 * rng.normal(size=30), shared, rng)
    assert 0.8 < lo < 1 < hi < 1.2
    with pytest.raises(ValueError, match="one pair per seed"):
        stats.paired_bootstrap([1, 2, 3], [1, 2], rng)


def test_fitted_exponent_is_exact_on_a_power_law_and_unsure_on_noise():
    x = np.array([64, 128, 256, 512, 1024])
    exact = stats.fitted_exponent(x, 3 * x**-0.5)
    assert exact.slope == pytest.approx(-0.5) and exact.error < 1e-12
    noise = np.exp(0.1 * run.rng("noise").normal(size=5))
    fit = scipy_stats.linregress(np.log(x), np.log(x**-0.5 * noise))
    noisy = stats.fitted_exponent(x, x**-0.5 * noise)
    assert (noisy.slope, noisy.error) == pytest.approx((fit.slope, fit.stderr))


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [([1, 2], [1, 2], "at least 3"), ([1, 2, 3], [1, 2, 0], "positive"), ([1, 2, 3], [1, 2, 3, 4], "as many")],
)
def test_fitted_exponent_names_what_is_wrong(x, y, named):
    with pytest.raises(ValueError, match=named):
        stats.fitted_exponent(x, y)


@pytest.mark.parametrize("answer", [1, 2, 3, 7, 8, 9, 1000, 12345])
@pytest.mark.parametrize("start", [1, 5])
def test_smallest_sufficient_finds_the_step(answer, start):
    asked = []
    found = stats.smallest_sufficient(lambda n: asked.append(n) or n >= answer, start=start)
    assert found == max(answer, start)
    assert len(asked) < 45


def test_smallest_sufficient_gives_up_aloud():
    with pytest.raises(ValueError, match="limit=100"):
        stats.smallest_sufficient(lambda n: False, limit=100)


@pytest.mark.parametrize("bad", [[1.0], [[1, 2], [3, 4]], [1.0, float("nan")]])
def test_samples_are_checked(bad):
    with pytest.raises(ValueError, match="values"):
        stats.mean_interval(bad)
