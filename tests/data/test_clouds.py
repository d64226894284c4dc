"""Point clouds: lengths of arcs, trees, noise, and one door for their randomness."""

import numpy as np
import pytest
import torch
from kernelbook.data.clouds import branching_tree, swiss_roll


def rng(seed=1):
    return np.random.default_rng(seed)


def test_the_roll_has_shapes_and_ranges():
    points, unrolled, geodesic = swiss_roll(50, rng(), dimension=10, height=2.0)
    assert points.shape == (50, 10) and unrolled.shape == (50, 2) and geodesic.shape == (50, 50)
    assert points.dtype == unrolled.dtype == geodesic.dtype == torch.float64
    assert unrolled[:, 1].min() >= 0 and 1 < unrolled[:, 1].max() <= 2
    radius = points.norm(dim=1)
    assert radius.min() > 1.5 * np.pi - 0.1 and radius.max() < 4.5 * np.pi + 0.3


def test_without_noise_the_roll_lies_in_three_dimensions():
    points, _, _ = swiss_roll(80, rng(), dimension=10)
    assert torch.linalg.matrix_rank(points, rtol=1e-10) == 3


def test_geodesics_are_lengths_of_the_spiral():
    # many points: near neighbors along the strip are as far apart as in space
    points, unrolled, geodesic = swiss_roll(3000, rng(), height=1e-6)
    order = unrolled[:, 0].argsort()
    steps = (points[order][1:] - points[order][:-1]).norm(dim=1)
    along = geodesic[order[:-1], order[1:]]
    assert torch.allclose(steps.sum(), along.sum(), rtol=1e-4)
    assert torch.allclose(geodesic[order[0], order[-1]], along.sum())
    assert (torch.cdist(points, points) <= geodesic + 1e-5).all()


def test_geodesics_are_a_metric_blind_to_noise():
    quiet, loud = swiss_roll(40, rng(), noise=0.0), swiss_roll(40, rng(), noise=2.0)
    assert torch.equal(quiet[2], loud[2]) and torch.equal(quiet[1], loud[1])
    assert torch.equal(quiet[2], quiet[2].T) and quiet[2].diagonal().abs().max() == 0
    added = loud[0] - quiet[0]
    assert 1.6 < added.std() < 2.4


def test_the_roll_is_turned_at_random():
    # the axis of the roll has no preferred direction
    frames = torch.stack([torch.linalg.svd(swiss_roll(60, rng(s), height=1e-9)[0])[2][2] for s in range(200)])
    assert frames.square().mean(0).sub(1 / 3).abs().max() < 0.07


def test_the_tree_has_shapes_and_labels():
    points, branch, geodesic = branching_tree(4, 15, rng(), dimension=7)
    assert points.shape == (60, 7) and geodesic.shape == (60, 60) and points.dtype == geodesic.dtype == torch.float64
    assert branch.dtype == torch.int64 and branch.tolist() == [i // 15 for i in range(60)]


def test_distances_on_the_tree_are_shortest_paths_along_its_steps():
    from scipy.sparse.csgraph import shortest_path

    points, _, geodesic = branching_tree(5, 12, rng(), dimension=6)
    straight = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    # the edges of a tree are the pairs with no third point between them
    edge = torch.isclose(straight, geodesic, atol=1e-12) & (geodesic > 0)
    assert edge.sum() >= 2 * 59
    assert np.allclose(shortest_path(np.where(edge, geodesic, 0)), geodesic)
    assert (straight <= geodesic + 1e-12).all() and torch.equal(geodesic, geodesic.T)


def test_four_points_of_a_tree_obey_the_four_point_rule():
    D = branching_tree(6, 10, rng())[2]
    generator = rng(2)
    for _ in range(200):
        a, b, c, d = generator.choice(60, 4, replace=False)
        sums = sorted(float(s) for s in (D[a, b] + D[c, d], D[a, c] + D[b, d], D[a, d] + D[b, c]))
        assert abs(sums[2] - sums[1]) < 1e-9


def test_same_rng_same_cloud_other_rng_another():
    for make in (lambda g: swiss_roll(20, g, noise=0.1), lambda g: branching_tree(2, 10, g, noise=0.1)):
        first, again, other = (make(rng(s))[0] for s in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: swiss_roll(0, rng()), "n=0: expected a whole number from 1"),
        (lambda: swiss_roll(5, rng(), dimension=2), "dimension=2: expected a whole number from 3"),
        (lambda: swiss_roll(5, rng(), noise=-1.0), "noise=-1.0: expected"),
        (lambda: swiss_roll(5, rng(), height=0.0), "height=0.0: expected"),
        (lambda: branching_tree(0, 5, rng()), "branches=0: expected"),
        (lambda: branching_tree(2, 0, rng()), "length=0: expected"),
        (lambda: branching_tree(2, 5, rng(), dimension=0), "dimension=0: expected"),
        (lambda: branching_tree(2, 5, rng(), noise=float("nan")), "noise=nan: expected"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
