"""log I and log K against 60 digits, against identities, at the edges of their branches, and their derivatives."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu import bessel
from kernelbook.gpu.bessel import BRANCHES, branch, large_order, log_iv, log_iv_reference, log_kv, log_kv_reference

RECORD = json.loads((Path(__file__).parents[2] / "book" / "data" / "bessel" / "reference.json").read_text(encoding="utf-8"))
POINTS = torch.tensor([[float(number) for number in row] for row in RECORD["rows"]], dtype=torch.float64)
NU, X, LOG_I, LOG_K = POINTS.unbind(1)
BOTH = pytest.mark.parametrize("function, exact, sign", [(log_iv_reference, LOG_I, 1), (log_kv_reference, LOG_K, -1)], ids="IK")


def error(y, exact, nu=0.0, x=0.0):
    """Relative where the logarithm is above 1, absolute below.

    Where nu and x are given, h / 100 counts as 1 does: near log = 0 two numbers of size h cancel, and the last bit of nu alone
    moves the result by more than 1e-16 h.
    """
    h = torch.hypot(torch.as_tensor(nu, dtype=torch.float64), torch.as_tensor(x, dtype=torch.float64))
    return ((y.double() - exact).abs() / torch.maximum(exact.abs(), h / 100).clamp_min(1)).max().item()


def log_uniform(name, low, high, n):
    return low * (high / low) ** torch.rand(n, generator=run.generator(name), dtype=torch.float64)


def draw(n):
    """Orders (one in twenty is 0) and arguments over the whole plane that is claimed."""
    nu = log_uniform("nu", 1e-2, 1e5, n)
    nu[::20] = 0
    return nu, log_uniform("x", 1e-3, 1e5, n)


def test_the_record_is_what_its_script_wrote():
    said = "\n".join(" ".join(row) for row in RECORD["rows"])
    assert hashlib.sha256(said.encode()).hexdigest() == RECORD["sha256"] and POINTS.shape == (2000, 4)


@BOTH
@pytest.mark.parametrize("table", ["lean", "guarded"])
def test_both_tables_have_thirteen_digits(function, exact, sign, table):
    assert error(function(NU, X, table=table), exact) < 4e-14


@BOTH
def test_every_branch_of_the_lean_table_is_among_the_recorded_points(function, exact, sign):
    codes = branch(NU, X)
    assert codes.unique().tolist() == list(range(bessel.LEAN))
    assert max(error(function(NU[codes == c], X[codes == c]), exact[codes == c]) for c in codes.unique()) < 4e-14


def test_the_printed_table_loses_digits_that_the_guarded_one_keeps():
    nu, x = torch.tensor([139.08], dtype=torch.float64), torch.tensor([3328.3], dtype=torch.float64)
    printed, guarded, lean = (log_iv_reference(nu, x, table=table) for table in ("printed", "guarded", "lean"))
    assert 1e-13 < error(printed, lean) < 1e-12
    assert error(guarded, lean) < 1e-15


@BOTH
def test_other_points_against_mpmath(function, exact, sign):
    mpmath = pytest.importorskip("mpmath")
    nu, x = log_uniform("nu", 0.01, 100, 25), log_uniform("x", 0.01, 100, 25)
    with mpmath.workdps(40):
        theirs = mpmath.besseli if sign > 0 else mpmath.besselk
        truth = [float(mpmath.log(theirs(a, b))) for a, b in zip(nu.tolist(), x.tolist(), strict=True)]
    assert error(function(nu, x), torch.tensor(truth, dtype=torch.float64)) < 4e-14


def test_half_integer_orders_are_elementary():
    x = log_uniform("x", 1e-3, 1e5, 500)
    decay = 0.5 * torch.log(0.5 * math.pi / x) - x
    assert error(log_iv(0.5, x), 0.5 * torch.log(0.5 / (math.pi * x)) + x + torch.log(-torch.expm1(-2 * x))) < 2e-14
    assert error(log_kv(0.5, x), decay) < 2e-14
    assert error(log_kv(1.5, x), decay + torch.log1p(1 / x)) < 2e-14
    assert error(log_kv(2.5, x), decay + torch.log1p(3 / x + 3 / x**2)) < 2e-14


def test_wronskian():
    nu, x = draw(5000)
    i, more_i, k, more_k = log_iv(nu, x), log_iv(nu + 1, x), log_kv(nu, x), log_kv(nu + 1, x)
    residual = torch.logaddexp(i + more_k, more_i + k) + x.log()
    largest = torch.stack([i, more_i, k, more_k, torch.hypot(nu, x) / 100]).abs().amax(0).clamp_min(1)
    assert (residual / largest).abs().max() < 5e-14


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("edge, below, above", [(2.0 ** (3 + c), c - 1, c) for c in range(2, bessel.LEAN)])
def test_neighbors_agree_on_both_sides_of_an_edge(edge, below, above, sign):
    angle = torch.linspace(0, 0.4999 * math.pi, 200, dtype=torch.float64)
    for h in (0.99 * edge, edge, 1.01 * edge):
        nu, x = h * angle.sin(), h * angle.cos()
        a, b = (large_order(nu, x, bessel.TERMS[code], sign) for code in (below, above))
        # a little below its own octave a branch is a little worse
        assert error(a, b, nu, x) < 4e-14


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fallback_agrees_with_the_first_expansion_around_16(sign):
    angle = torch.linspace(0, 0.49 * math.pi, 200, dtype=torch.float64)
    fallback = bessel.power_series if sign > 0 else bessel.trapezoid
    for h in (15.84, 16.0, 16.16):
        nu, x = h * angle.sin(), h * angle.cos()
        assert error(large_order(nu, x, 20, sign), fallback(nu, x)) < 2e-14


def test_rows_of_the_paper():
    points = {
        (0.5, 1500.0): "mu3",
        (1.0, 40.0): "mu20",
        (200.0, 30.0): "U4",
        (60.0, 30.0): "U6",
        (25.0, 30.0): "U9",
        (13.0, 10.0): "U13",
        (16.0, 25.0): "U13",
        (3.0, 10.0): "fallback",
        (0.0, 25.0): "fallback",
    }
    nu, x = torch.tensor(list(points), dtype=torch.float64).unbind(1)
    for table in ("printed", "guarded"):
        assert [BRANCHES[c] for c in branch(nu, x, table=table)] == list(points.values())
    far = torch.tensor([139.08], dtype=torch.float64), torch.tensor([3328.3], dtype=torch.float64)
    assert [BRANCHES[int(branch(*far, table=table))] for table in ("printed", "guarded")] == ["mu20", "U4"]


def test_lean_branches_go_by_the_octave_of_h():
    nu, x = draw(2000)
    octave = torch.hypot(nu, x).log2().floor()
    assert torch.equal(branch(nu, x), (octave - 3).clamp(0, 8).to(torch.uint8))
    assert torch.equal(branch(nu.view(40, 50).T, x.view(40, 50).T), branch(nu, x).view(40, 50).T)


def test_polynomials_of_the_expansion():
    first, second = bessel.u_polynomials(2)
    assert [24 * c for c in first] == [3, -5]
    assert [1152 * c for c in second] == [81, -462, 385]


@pytest.mark.parametrize("function", [log_iv, log_kv])
def test_derivative_in_x(function):
    nu = torch.tensor([0.0, 0.5, 3.0, 12.0, 40.0, 300.0], dtype=torch.float64)
    x = torch.tensor([0.7, 2.0, 9.0, 15.0, 25.0, 100.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: function(nu, at), x)
    assert torch.autograd.gradgradcheck(lambda at: function(nu, at), x)


def test_derivative_is_the_ratio_of_the_book_on_the_sphere():
    x = log_uniform("x", 0.1, 50, 40).requires_grad_()
    (slope,) = torch.autograd.grad(log_iv(0.5, x).sum(), x)
    assert torch.allclose(slope, 1 / torch.tanh(x) - 0.5 / x, rtol=1e-12, atol=1e-12)


def test_derivative_in_float32_is_taken_in_float64():
    x = torch.tensor([5000.0, 100.0], requires_grad=True)
    nu = torch.tensor([16383.0, 2000.0])
    (slope,) = torch.autograd.grad(log_iv(nu, x).sum(), x)
    wide = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(log_iv(nu.double(), wide).sum(), wide)
    assert slope.dtype == torch.float32 and error(slope / exact, torch.ones(2, dtype=torch.float64)) < 1e-6


def test_a_derivative_in_the_order_is_refused():
    nu = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="nu requires a gradient: expected a tensor without"):
        log_iv(nu, torch.tensor([1.0]))
    with torch.no_grad():
        assert log_kv(nu, torch.tensor([1.0])).isfinite().all()


@BOTH
def test_float32_is_rounded_once(function, exact, sign):
    nu, x = draw(5000)
    y = function(nu.float(), x.float())
    assert y.dtype == torch.float32
    assert error(y, function(nu.float().double(), x.float().double())) < 6.1e-8


def test_finite_everywhere():
    nu, x = torch.cat([torch.zeros(1), torch.logspace(-2, 5, 80)]).double()[:, None], torch.logspace(-3, 5, 80).double()
    assert log_iv(nu, x).isfinite().all() and log_kv(nu, x).isfinite().all()


@BOTH
def test_a_million_at_once_are_what_they_are_alone(function, exact, sign):
    nu, x = draw(1_000_000)
    some = torch.randint(len(x), (300,), generator=run.generator("some"))
    assert error(function(nu, x)[some], function(nu[some], x[some]), nu[some], x[some]) < 4e-14


@BOTH
def test_edges(function, exact, sign):
    nu = torch.tensor([0.0, 0.5, 20.0, -0.5, -30.0, 0.0, torch.nan, 1.0, 0.0], dtype=torch.float64)
    x = torch.tensor([0.0, 0.0, 0.0, 1.0, 50.0, -1.0, 1.0, torch.nan, 1e-140], dtype=torch.float64)
    zero = [0.0, -math.inf, -math.inf] if sign > 0 else [math.inf] * 3
    tiny = 0.0 if sign > 0 else math.log(math.log(2e140) - 0.5772156649015329)
    wanted = torch.tensor([*zero, *[math.nan] * 5, tiny], dtype=torch.float64)
    assert torch.allclose(function(nu, x), wanted, rtol=1e-14, atol=1e-14, equal_nan=True)


def test_shapes():
    x = torch.rand(3, 1, 4, generator=run.generator("x")).double() + 1
    assert log_iv(2, x).shape == (3, 1, 4) and log_iv(torch.ones(5, 1).double(), x).shape == (3, 5, 4)
    assert log_kv(torch.tensor(1.0), torch.tensor(2.0)).shape == ()
    assert log_iv(torch.ones(0), torch.ones(0)).shape == (0,)
    assert torch.equal(log_iv(1.0, x.permute(2, 1, 0)), log_iv(1.0, x).permute(2, 1, 0))


one = torch.ones(3)


@pytest.mark.parametrize(
    "nu, x, options, said",
    [
        (one, one, {"backend": "cuda"}, "backend='cuda': expected one of"),
        (one, one, {"block": 48}, "block=48: expected a power of two"),
        (one.double(), one, {}, "nu has dtype torch.float64: expected torch.float32, as x"),
        (one.half(), one.half(), {}, "x has dtype torch.float16: expected float32 or float64"),
        (one.long(), one, {}, "nu has dtype torch.int64: expected"),
        (one.to("meta"), one, {}, "nu is on meta: expected cpu, where x is"),
        (torch.ones(2), one, {}, r"nu has shape \(2,\): expected one that broadcasts with that of x, \(3,\)"),
        (1.0, 2.0, {}, "x is float: expected a float32 or float64 tensor"),
        ("1", one, {}, "nu is str: expected a float32 or float64 tensor"),
    ],
)
def test_a_bad_argument_is_named(nu, x, options, said):
    for function in (log_iv, log_kv):
        with pytest.raises(ValueError, match=said):
            function(nu, x, **options)


def test_branch_names_what_does_not_fit():
    with pytest.raises(ValueError, match="table='paper': expected one of"):
        branch(one.double(), one.double(), table="paper")
    with pytest.raises(ValueError, match=r"nu and x are torch.float32 \(3,\) and torch.float64 \(3,\): expected float64"):
        branch(one, one.double())
