"""Lattices and nets as groups and as even point sets; determinantal draws against their closed-form law."""

import itertools
import math

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.designs import BITS, SCRAMBLES, digital_net, lattice, sample_projection_dpp


def whole(points):
    return (points * 2**BITS).long()


def draw_q(name, N, m, dtype=torch.float64):
    return torch.linalg.qr(torch.randn(N, m, generator=run.generator(name), dtype=torch.float64))[0].to(dtype)


def test_lattice_is_its_formula():
    shift = torch.rand(3, generator=run.generator("shift"), dtype=torch.float64)
    found = lattice(16, 3, run.generator("shift"))
    for i in range(16):
        mirrored = int(f"{i:04b}"[::-1], 2) / 16
        expected = (mirrored * torch.tensor([1.0, 182667, 469891], dtype=torch.float64) + shift) % 1
        assert torch.allclose(found[i], expected, atol=1e-10)
    assert lattice(8, 2)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("points", [lattice, digital_net])
def test_longer_sequences_begin_with_the_shorter(points):
    assert torch.equal(points(64, 5, run.generator("extend"))[:16], points(16, 5, run.generator("extend")))
    assert torch.equal(points(64, 5)[:16], points(16, 5))


def test_lattice_is_a_group():
    x = lattice(32, 4)
    assert (x == (x[3] + x[17]) % 1).all(1).sum() == 1
    # a shift moves all points alike, to the last digits
    moved = (lattice(1024, 4, run.generator("shift")) - lattice(1024, 4)) % 1
    assert (moved - moved[0]).abs().max() < 1e-15


def test_every_coordinate_of_a_lattice_hits_each_cell_once():
    x = lattice(256, 20, run.generator("cells"))
    assert all(len(set((256 * column).long().tolist())) == 256 for column in (x - x[0] + 0.5 / 256).T % 1)


def test_plain_net_is_scipys_sobol():
    from scipy.stats import qmc

    theirs = torch.from_numpy(qmc.Sobol(20, scramble=False, bits=30).random(1024))
    i = torch.arange(1024)
    # SciPy walks along the Gray code
    assert torch.equal(digital_net(1024, 20)[i ^ (i >> 1)], theirs)


@pytest.mark.parametrize("scramble", SCRAMBLES)
def test_scrambled_nets_stay_nets(scramble):
    x = digital_net(256, 2, run.generator("net"), scramble=scramble)
    # a (0, 8, 2)-net: one point in each dyadic box of volume 1 / 256
    for k in range(9):
        cells = (x[:, 0] * 2**k).long() * 2 ** (8 - k) + (x[:, 1] * 2 ** (8 - k)).long()
        assert len(set(cells.tolist())) == 256
    wide = digital_net(256, 20, run.generator("wide"), scramble=scramble)
    assert all(len(set((256 * column).long().tolist())) == 256 for column in wide.T)
    assert x.dtype == torch.float64 and x.min() >= 0 and x.max() < 1 and torch.equal(x, whole(x).double() * 2.0**-BITS)


@pytest.mark.parametrize("scramble, group", [("shift", True), ("matrix", True), ("nested", False)])
@pytest.mark.parametrize("interlace", [1, 2])
def test_linear_scramblings_keep_the_group_and_the_nested_one_does_not(scramble, group, interlace):
    x = whole(digital_net(64, 3, run.generator("group"), scramble=scramble, interlace=interlace))
    i, j = torch.arange(64)[:, None], torch.arange(64)
    assert torch.equal(x[i] ^ x[j], x[i ^ j] ^ x[0]) is group


@pytest.mark.parametrize("scramble", SCRAMBLES)
@pytest.mark.parametrize("interlace", [1, 2, 3])
def test_each_scrambled_point_is_uniform(scramble, interlace):
    g = run.generator("uniform")
    x = torch.stack([digital_net(8, 2, g, scramble=scramble, interlace=interlace) for _ in range(1000)])
    eighths = torch.nn.functional.one_hot((8 * x).long(), 8).double().mean(0)
    assert (eighths - 1 / 8).abs().max() < 6 * math.sqrt(7 / 64 / 1000)
    # the digits below those of the net as well
    assert ((x * 2**20 % 1).mean(0) - 0.5).abs().max() < 6 * math.sqrt(1 / 12 / 1000)


def test_nested_scrambling_flips_each_prefix_by_a_coin_of_its_own():
    g = run.generator("coins")
    plain = digital_net(8, 1)[:, 0]
    order, flips = plain.argsort(), []
    for _ in range(4000):
        x = (8 * digital_net(8, 1, g, scramble="nested")[order, 0]).long()
        digits = torch.stack([x >> 2 & 1, x >> 1 & 1, x & 1])
        flips.append(torch.stack([digits[0, 0], digits[1, 0], digits[1, 4], *digits[2, ::2]]))
    flips = torch.stack(flips).double()
    # seven coins, fair and uncorrelated; with a matrix scrambling coins of one level move together
    assert torch.allclose(torch.cov(flips.T), torch.eye(7, dtype=torch.float64) / 4, atol=6 / 4 / math.sqrt(4000))


def test_interlacing_alternates_digits():
    x, mixed = whole(digital_net(32, 4)), whole(digital_net(32, 2, interlace=2))
    for i, j in itertools.product(range(32), range(2)):
        a, b = f"{x[i, 2 * j]:0{BITS}b}", f"{x[i, 2 * j + 1]:0{BITS}b}"
        assert f"{mixed[i, j]:0{BITS}b}" == "".join(p + q for p, q in zip(a, b, strict=True))[:BITS]


def test_scrambled_nets_beat_random_points():
    g = run.generator("integral")
    error = dict.fromkeys((*SCRAMBLES, "lattice", "random"), 0.0)
    for name, _ in itertools.product(error, range(20)):
        if name == "random":
            x = torch.rand(1024, 3, generator=g, dtype=torch.float64)
        else:
            x = lattice(1024, 3, g) if name == "lattice" else digital_net(1024, 3, g, scramble=name)
        error[name] += float((torch.exp(x) / (math.e - 1)).prod(1).mean() - 1) ** 2
    assert all(error[name] < error["random"] / 25 for name in error if name != "random")


def test_dpp_has_the_law_of_squared_determinants():
    Q, draws = draw_q("law", 6, 3), 20_000
    sets = sample_projection_dpp(Q, run.generator("sets"), draws=draws).sort(1)[0]
    keys = sets @ torch.tensor([36, 6, 1])
    squared = 0.0
    for S in itertools.combinations(range(6), 3):
        p = float(torch.linalg.det(Q[list(S)]) ** 2)
        squared += (float((keys == 36 * S[0] + 6 * S[1] + S[2]).sum()) - draws * p) ** 2 / (draws * p)
    # chi-square with 19 degrees of freedom: beyond 53 once in 20,000
    assert squared < 53


def test_dpp_order_of_drawing_is_exchangeable():
    Q, draws = draw_q("order", 5, 2), 20_000
    first, second = (sample_projection_dpp(Q, run.generator("pairs"), draws=draws)[:, k].bincount(minlength=5) for k in (0, 1))
    expected = draws * Q.square().sum(1) / 2
    assert all((counts - expected).abs().max() < 6 * math.sqrt(draws / 4) for counts in (first, second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dpp_rows_differ_and_are_independent(dtype):
    Q = draw_q("many", 40, 30, dtype)
    sets = sample_projection_dpp(Q, run.generator("rows"), draws=50)
    assert sets.shape == (50, 30) and sets.dtype == torch.int64
    assert all(len(set(S.tolist())) == 30 for S in sets)
    assert min(float(torch.linalg.svdvals(Q[S].double())[-1]) for S in sets) > 1e-5


def test_dpp_of_as_many_features_as_rows_takes_all():
    assert sorted(sample_projection_dpp(draw_q("all", 7, 7), run.generator("x")).tolist()) == list(range(7))


def test_dpp_leaves_rows_without_features_alone():
    Q = torch.zeros(10, 2, dtype=torch.float64)
    Q[[3, 7], [0, 1]] = 1.0
    assert (sample_projection_dpp(Q, run.generator("x"), draws=200).sort(1)[0] == torch.tensor([3, 7])).all()


def test_dpp_in_several_portions_is_one_stream_of_independent_sets():
    Q = draw_q("portions", 1 << 17, 2)
    sets = sample_projection_dpp(Q, run.generator("x"), draws=20)
    assert sets.shape == (20, 2) and len(set(map(tuple, sets.tolist()))) == 20


Q2, G = torch.eye(4, 2), run.generator("errors")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: lattice(12, 2), "n=12: expected a power of two"),
        (lambda: lattice(1 << 21, 2), "n=2097152: expected a power of two"),
        (lambda: lattice(8.0, 2), "n=8.0: expected a power of two"),
        (lambda: lattice(8, 21), "d=21: expected a whole number from 1 to 20"),
        (lambda: lattice(8, 2, vector=(1, 2)), r"vector=\(1, 2\): expected odd"),
        (lambda: digital_net(0, 2), "n=0: expected a power of two"),
        (lambda: digital_net(8, 0), "d=0: expected a whole number from 1 to 20"),
        (lambda: digital_net(8, 7, interlace=3), "d=7: expected a whole number from 1 to 6"),
        (lambda: digital_net(8, 2, interlace=5), "interlace=5: expected"),
        (lambda: digital_net(8, 2, scramble="owen"), "scramble='owen': expected one of shift, matrix, nested"),
        (lambda: sample_projection_dpp([[1.0]], G), "Q is list: expected"),
        (lambda: sample_projection_dpp(torch.eye(3, dtype=torch.int64), G), "Q is torch.int64 of shape"),
        (lambda: sample_projection_dpp(2 * Q2, G), "columns 3.0e.00 from orthonormal"),
        (lambda: sample_projection_dpp(Q2.T, G), "from orthonormal: expected"),
        (lambda: sample_projection_dpp(Q2, G, draws=0), "draws=0: expected"),
        (lambda: sample_projection_dpp(Q2, None), "generator=None: expected"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
