r"""Logs of modified Bessel functions, log I_nu(x) and log K_nu(x), which neither overflow nor underflow.

With h = sqrt(nu^2 + x^2), w = 1 / h, p = (nu / h)^2 and E = h + nu log(x / (nu + h)), for h from 16 upwards
    log I =  E - 1/2 log(2 pi h)   + log sum_k   w^k  P_k(p),
    log K = -E + 1/2 log(pi / 2 h) + log sum_k (-w)^k P_k(p),
fewer terms the larger h is; below, I is summed from its power series and K from its integral over the real line.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernels below name tl before Triton has been imported

import functools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Kernel, Target, Work, register

if TYPE_CHECKING:
    import triton.language as tl

BRANCHES = ("fallback", "U20", "U9", "U7", "U6", "U5", "U4", "U3", "U2", "U13", "mu20", "mu3")  # what a branch code stands for
TABLES = ("lean", "guarded", "printed")
TERMS = tuple(int(name.strip("Umu")) if name[-1].isdigit() else 0 for name in BRANCHES)
LEAN = 9  # the first branches are those of the lean table: fallback for h < 16, then one for each octave of h
SHIFT = 8  # Stirling's series is taken at nu + 1 + SHIFT
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)  # of 1/y, 1/y^3, 1/y^5, ...
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# numbers held while one piece is worked on, elements sorted at a time, elements of one piece of a fallback
HELD, SORTED, SERIES_PIECE, TRAPEZOID_PIECE = 1 << 18, 1 << 18, 1 << 14, 1 << 11


# --- which formula where


def branch(nu: torch.Tensor, x: torch.Tensor, *, table: str = "lean") -> torch.Tensor:
    """Which formula a table takes at each (nu, x): codes into BRANCHES.

    nu, x: float64 of one shape.  Returns uint8 of that shape.
    table: "printed" is the paper's; "guarded" the same with the mu rows kept to nu^2 < 2 x and nu^2 < 0.002 x, outside which
    they lose digits of log I; "lean", the library's own, asks only for the power of two below h = sqrt(nu^2 + x^2), which
    makes every mu row and every condition on nu unnecessary.
    Raises ValueError for an unknown table.
    Source: log-bessel, table of branches (printed); this book (guarded, lean).
    """
    if table not in TABLES:
        raise ValueError(f"table={table!r}: expected one of {TABLES}")
    if nu.dtype != torch.float64 or x.dtype != torch.float64 or nu.shape != x.shape:
        given = f"{nu.dtype} {tuple(nu.shape)} and {x.dtype} {tuple(x.shape)}"
        raise ValueError(f"nu and x are {given}: expected float64 of one shape")
    nu, x = nu.contiguous(), x.contiguous()
    if table == "lean":
        h = torch.mul(x, x).addcmul_(nu, nu).sqrt_().view(-1)
        # the exponent of a float64 stands in its last 16 bits, above 4 bits of its fraction and below its sign
        octave = (h.view(torch.int16)[3::4] >> 4).bitwise_and_(2047).sub_(1023 + 3)
        return octave.clamp_(0, LEAN - 1).to(torch.uint8).view(x.shape)
    rows = branch_table(guarded=table == "guarded")
    code = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for name, condition in reversed(rows):
        code[condition(nu, x)] = BRANCHES.index(name)
    return code


def branch_table(*, guarded: bool = True) -> list[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]]:
    """The paper's table as (name, condition on (nu, x)); the first row that holds is taken, the last one always does.

    Source: log-bessel, table of branches, with natural logarithms.
    """

    def mu3(nu, x):
        small, slanted = (x > 1400) & (nu < 3.05), (nu.log() < 0.6229 * x.log() - 3.2318) & (nu > 3.1)
        return (small | slanted) & ((nu * nu < 0.002 * x) if guarded else True)

    def mu20(nu, x):
        small, slanted = (x > 30) & (nu < 15.3919), (nu.log() < 0.5113 * x.log() + 0.7939) & (x > 59.6925)
        return (small | slanted) & ((nu * nu < 2 * x) if guarded else True)

    return [
        ("mu3", mu3),
        ("mu20", mu20),
        ("U4", lambda nu, x: ((x > 274.2377) & (nu > 0.3)) | (nu > 163.6993)),
        ("U6", lambda nu, x: ((x > 84.4153) & (nu > 0.46)) | (nu > 56.9971)),
        ("U9", lambda nu, x: ((x > 35.9074) & (nu > 0.6)) | (nu > 20.1534)),
        ("U13", lambda nu, x: ((x > 19.6931) & (nu > 0.7)) | (nu > 12.6964)),
        ("fallback", lambda nu, x: torch.ones_like(x, dtype=torch.bool)),
    ]


# --- the formulas, each on a line of numbers in float64; sign is 1 for I and -1 for K


def _factor(sign: int) -> float:
    """1 / (2 pi) for I, pi / 2 for K."""
    return 0.5 * math.pi**-sign


@functools.cache
def u_polynomials(terms: int) -> tuple[tuple[Fraction, ...], ...]:
    """The polynomials P_1 ... P_terms of the expansion for large orders, exactly: u_k(t) = t^k P_k(t^2).

    Returns for each k its k + 1 coefficients, the constant first.
    Source: log-bessel, recurrence of the u_k: u_{k+1} = t^2 (1 - t^2) u_k' / 2 + integral from 0 to t of (1 - 5 s^2) u_k / 8.
    """
    made: list[tuple[Fraction, ...]] = []
    last: tuple[Fraction, ...] = (Fraction(1),)
    for k in range(terms):
        coefficients = [Fraction(0)] * (k + 2)
        for i, a in enumerate(last):
            power = k + 2 * i
            coefficients[i] += a * (Fraction(power, 2) + Fraction(1, 8 * (power + 1)))
            coefficients[i + 1] -= a * (Fraction(power, 2) + Fraction(5, 8 * (power + 3)))
        last = tuple(coefficients)
        made.append(last)
    return tuple(made)


@functools.cache
def _u_matrix(terms: int) -> torch.Tensor:
    """Row k holds the coefficients of P_k, k from 0 on.  (terms + 1, terms + 1) float64."""
    rows = [(Fraction(1),), *u_polynomials(terms)]
    return torch.tensor([[float(c) for c in row] + [0.0] * (terms + 1 - len(row)) for row in rows], dtype=torch.float64)


def large_order(nu: torch.Tensor, x: torch.Tensor, terms: int, sign: int) -> torch.Tensor:
    """log I (sign 1) or log K (sign -1) for large h = sqrt(nu^2 + x^2).  nu, x: (n,) float64.

    Source: log-bessel, expansion for large orders, written in h, which allows nu = 0.
    """
    return _large_order(nu, x, terms, sign, x.new_empty(_rows(terms), len(x)))


def _rows(terms: int) -> int:
    return 2 * (terms + 1) + 3


def _large_order(nu: torch.Tensor, x: torch.Tensor, terms: int, sign: int, memory: torch.Tensor) -> torch.Tensor:
    # every step writes where the cache is warm already, which nearly halves the time
    all_powers, all_P, rest = memory.split([terms + 1, terms + 1, 3])
    powers, P, (h, w, exponent) = all_powers.unbind(0), all_P.unbind(0), rest.unbind(0)
    torch.mul(x, x, out=h).addcmul_(nu, nu).sqrt_()
    torch.reciprocal(h, out=w)
    torch.add(nu, h, out=exponent)
    torch.addcmul(h, nu, torch.div(x, exponent, out=exponent).log_(), out=exponent)
    # all P_k(p) by one matrix product with the powers of p = (nu / h)^2, then their sum by Horner's rule in w
    powers[0].fill_(1)
    p = torch.mul(nu, w, out=powers[1]).square_()
    for i in range(2, terms + 1):
        torch.mul(powers[i - 1], p, out=powers[i])
    torch.mm(_u_matrix(terms).to(x.device), all_powers, out=all_P)
    total = P[terms]
    for k in range(terms - 1, -1, -1):
        total = P[k].addcmul_(total, w, value=sign)
    # one logarithm instead of three: of w (sum)^2 / (2 pi), or pi w (sum)^2 / 2
    total.square_().mul_(w).mul_(_factor(sign)).log_()
    return torch.add(exponent.mul_(sign) if sign < 0 else exponent, total, alpha=0.5)


def large_argument(nu: torch.Tensor, x: torch.Tensor, terms: int, sign: int) -> torch.Tensor:
    """log I (sign 1) or log K (sign -1) for x far above nu^2.  nu, x: (n,) float64.

    Source: log-bessel, expansion for large arguments (the mu rows of its table).
    """
    mu, total = 4 * nu * nu, torch.ones_like(x)
    for k in range(terms, 0, -1):
        total = 1 - sign * (mu - (2 * k - 1) ** 2) / (8 * k * x) * total
    return sign * x + 0.5 * torch.log(_factor(sign) / x) + torch.log(total)


def power_series(nu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """log I for small arguments: (x/2)^nu / Gamma(nu + 1) times the sum of q^k / (k! (nu+1) ... (nu+k)), q = (x/2)^2.

    nu, x: (n,) float64, x up to 30.
    Source: log-bessel, fallback for I, here on the linear scale, where positive terms neither overflow nor cancel.
    """
    half = 0.5 * x
    q = half * half
    # a / b is the sum from term k on, divided by term k; b is kept apart, so that no step divides
    a, b = torch.ones_like(x), torch.ones_like(x)
    for k in range(series_terms(float(x.max())), 0, -1):
        if k == SHIFT:
            # b goes on as (nu + 1) ... (nu + 8), which lifts Gamma(nu + 1) to where Stirling's series is exact
            a, b = a.div_(b), torch.ones_like(b)
        b.mul_(nu + k)
        a = torch.addcmul(b, a, q, value=1 / k)
    return half.log_().mul_(nu).add_(a.log_()).sub_(_log_gamma(nu + (SHIFT + 1)))


def series_terms(x: float) -> int:
    """How many terms of the series for I_nu matter in float64, whatever nu is."""
    return 10 + math.ceil(1.35 * x)


def _log_gamma(y: torch.Tensor) -> torch.Tensor:
    """log Gamma(y) for y from 9 upwards by Stirling's series."""
    inverse = y.reciprocal()
    square = inverse * inverse
    total = torch.full_like(y, STIRLING[-1])
    for coefficient in STIRLING[-2::-1]:
        total.mul_(square).add_(coefficient)
    return total.mul_(inverse).sub_(y).addcmul_(y - 0.5, y.log()).add_(HALF_LOG_2PI)


def trapezoid(nu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """log K as the log of the integral of exp(-x cosh s) cosh(nu s) over s > 0, by the trapezoid rule.

    nu, x: (n,) float64.  The integrand is analytic and dies off doubly exponentially: the rule converges geometrically.
    Source: this book, in place of the paper's integral and Simpson's rule, which lose up to six digits.
    """
    x = x.clamp_min(1e-300)
    # near the logarithm of the largest value of exp(-x (cosh s - 1) + nu s), which could overflow
    anchor = torch.div(nu, x).log1p_().mul_(nu)
    s, step = _nodes(float(nu.max()), float(x.min()), float(x.max()), x)
    # the exponents at all nodes in one matrix product; exp is twenty times slower where it underflows
    values = torch.stack([-2 * torch.sinh(s / 2) ** 2, s, torch.full_like(s, -1)], 1) @ torch.stack([x, nu, anchor])
    values.clamp_min_(-700).exp_()
    values.addcmul_(values, torch.outer(-2 * s, nu).clamp_min_(-700).exp_())
    values[0] *= 0.5
    return values.sum(0).mul_(0.5 * step).log_().add_(anchor).sub_(x)


def _nodes(nu: float, x_least: float, x_most: float, like: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Nodes of the trapezoid rule for orders up to nu and arguments within the bounds, and their step."""
    step = 1 / 4 if nu < 2 and x_most < 4 else 1 / 5 if nu < 6 and x_most < 8 else 1 / 8
    # here the integrand has sunk below 1e-17 of its largest value
    end = math.log(2 + (80 + 8 * nu) / x_least)
    return step * torch.arange(1 + math.ceil(end / step), dtype=like.dtype, device=like.device), step


# --- the reference: elements of one branch side by side, in pieces that stay in the cache


def log_iv_reference(nu: torch.Tensor, x: torch.Tensor, *, table: str = "lean") -> torch.Tensor:
    """log I_nu(x) in plain torch, in float64 whatever the inputs are.  nu, x: of one dtype, broadcast.  See log_iv.

    table: which formula is taken where, see branch.
    """
    return _LogBessel.apply(*_prepared(nu, x), 1, "reference", table)


def log_kv_reference(nu: torch.Tensor, x: torch.Tensor, *, table: str = "lean") -> torch.Tensor:
    """log K_nu(x) in plain torch, in float64 whatever the inputs are.  nu, x: of one dtype, broadcast.  See log_kv.

    table: which formula is taken where, see branch.
    """
    return _LogBessel.apply(*_prepared(nu, x), -1, "reference", table)


def _evaluate(nu: torch.Tensor, x: torch.Tensor, sign: int, table: str) -> torch.Tensor:
    """nu, x: (n,) float64 or float32.  Returns (n,) in their dtype."""
    y = torch.empty_like(x)
    with torch.inference_mode():  # spares each of the many small steps the bookkeeping of autograd
        for start in range(0, len(x), SORTED):
            here = slice(start, start + SORTED)
            y[here] = _one_block(nu[here].double(), x[here].double(), sign, table)
    return y


def _one_block(nu: torch.Tensor, x: torch.Tensor, sign: int, table: str) -> torch.Tensor:
    codes = branch(nu, x, table=table)
    least, most = (int(code) for code in torch.aminmax(codes))
    if least == most or (table == "lean" and least >= BRANCHES.index("U4")):
        # more terms than needed never hurt, and two more cost less than to sort
        y = _one_branch(nu, x, least, sign)
    else:
        order, runs = _sorted_runs(codes)
        nu_sorted, x_sorted, y_sorted = nu.index_select(0, order), x.index_select(0, order), torch.empty_like(x)
        for code, run in runs:
            y_sorted[run] = _one_branch(nu_sorted[run], x_sorted[run], code, sign)
        y = torch.empty_like(x).index_copy_(0, order, y_sorted)
    if not (float(x.min()) > 0 and float(nu.min()) >= 0):
        _set_edges(y, nu, x, sign)
    return y


def _one_branch(nu: torch.Tensor, x: torch.Tensor, code: int, sign: int) -> torch.Tensor:
    terms, y = TERMS[code], torch.empty_like(x)
    if not terms:
        return _fallback(nu, x, sign)
    if BRANCHES[code].startswith("mu"):
        return large_argument(nu, x, terms, sign)
    pieces = list(_pieces(len(x), HELD // _rows(terms)))
    memory = x.new_empty(_rows(terms) * max(piece.stop - piece.start for piece in pieces))
    for piece in pieces:
        n = piece.stop - piece.start
        y[piece] = _large_order(nu[piece], x[piece], terms, sign, memory[: _rows(terms) * n].view(-1, n))
    return y


def _fallback(nu: torch.Tensor, x: torch.Tensor, sign: int) -> torch.Tensor:
    # neighbors of like x need like numbers of terms; the classes of nu are those of the steps in _nodes
    octave = (x.view(torch.int16)[3::4] >> 4).sub_(1023 - 25).clamp_(0, 31).to(torch.uint8)
    if sign < 0:
        octave += 32 * ((nu >= 2).to(torch.uint8) + (nu >= 6).to(torch.uint8))
    order, runs = _sorted_runs(octave)
    nu, x, y = nu.index_select(0, order), x.index_select(0, order), torch.empty_like(x)
    for kind in {code // 32 for code, _ in runs}:
        ours = [run for code, run in runs if code // 32 == kind]
        first, end = ours[0].start, ours[-1].stop
        for piece in _pieces(end - first, SERIES_PIECE if sign > 0 else TRAPEZOID_PIECE):
            here = slice(first + piece.start, first + piece.stop)
            y[here] = power_series(nu[here], x[here]) if sign > 0 else trapezoid(nu[here], x[here])
    return torch.empty_like(y).index_copy_(0, order, y)


def _sorted_runs(codes: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, slice]]]:
    """The order that brings equal codes together, and where each then lies."""
    import numpy as np  # its stable sort of bytes counts instead of comparing: twenty times faster than torch.sort

    counts = np.bincount(codes.cpu().numpy())
    order = torch.from_numpy(np.argsort(codes.cpu().numpy(), kind="stable")).to(codes.device)
    ends = np.cumsum(counts).tolist()
    return order, [(c, slice(end - n, end)) for c, (n, end) in enumerate(zip(counts.tolist(), ends, strict=True)) if n]


def _pieces(n: int, size: int) -> Iterator[slice]:
    """Slices of about equal length, at most size, that cover n."""
    number = -(-n // size)
    return (slice(n * i // number, n * (i + 1) // number) for i in range(number))


def _set_edges(y: torch.Tensor, nu: torch.Tensor, x: torch.Tensor, sign: int) -> None:
    """The limits at x = 0, and NaN outside the domain."""
    at_zero = torch.where(nu > 0, -math.inf, 0.0) if sign > 0 else torch.full_like(nu, math.inf)
    y.copy_(torch.where(x == 0, at_zero, y))
    y.masked_fill_(~((x >= 0) & (nu >= 0)), math.nan)


# --- the Triton kernels; all in float64, which is cheaper than to lose digits of nu log(x / (nu + h)) in float32


def large_order_sum(w, p, terms, u_ptr, BLOCK: tl.constexpr):
    """The sum of w^k P_k(p) over k = 0..terms; u: the coefficients of P_1, P_2, ..., each from its highest down."""
    total = tl.full((BLOCK,), 1.0, tl.float64)
    power = total
    at = 0
    for k in range(1, terms + 1):
        power = power * w
        polynomial = tl.zeros((BLOCK,), tl.float64)
        for i in range(k + 1):
            polynomial = polynomial * p + tl.load(u_ptr + at + i)
        at += k + 1
        total += power * polynomial
    return total


def series_kernel(nu, x, BLOCK: tl.constexpr):
    """log I for h < 16, as power_series does it."""
    q = x * x * 0.25
    # 32 terms are enough for every x < 16; a / b is the sum from term k on, divided by term k
    a = tl.full((BLOCK,), 1.0, tl.float64)
    b = a
    for i in range(24):
        b = b * (nu + (32 - i))
        a = b + a * q / (32 - i)
    # b goes on as (nu + 1) ... (nu + 8)
    a = a / b
    b = tl.full((BLOCK,), 1.0, tl.float64)
    for i in range(8):
        b = b * (nu + (8 - i))
        a = b + a * q / (8 - i)
    # Stirling's series for log Gamma(y)
    y = nu + 9.0
    s = 1.0 / (y * y)
    c = ((((s / 156 - 691 / 360360) * s + 1 / 1188) * s - 1 / 1680) * s + 1 / 1260) * s - 1 / 360
    log_gamma = (y - 0.5) * tl.log(y) - y + 0.9189385332046728 + (c * s + 1 / 12) / y
    y = nu * tl.log(x * 0.5) + tl.log(a) - log_gamma
    return tl.where(x == 0, tl.where(nu > 0, -float("inf"), 0.0), y)


def trapezoid_kernel(nu, x, BLOCK: tl.constexpr):
    """log K for h < 16 by the trapezoid rule with step 1/8, as trapezoid does it."""
    # near the logarithm of the largest value, which could overflow
    anchor = nu * tl.log(nu / x + 1)
    # enough of them for the smallest x and every nu < 16; at x = 0 no number would be
    nodes = (tl.log(180 / tl.min(tl.where(x > 0, x, 1.0), axis=0)) * 8).to(tl.int32)
    # the first value, exp(-anchor) (1 + 1), with half its weight
    total = tl.exp(-anchor)
    s = tl.zeros((BLOCK,), tl.float64)
    for _ in range(nodes):
        s += 0.125
        e = tl.exp(s)
        # (e - 1)^2 / 2 e is cosh s - 1 without cancellation
        total += tl.exp(nu * s - anchor - x * (e - 1) * (e - 1) / (2 * e)) * (tl.exp(nu * s * -2) + 1)
    y = tl.log(total * 0.0625) + anchor - x
    return tl.where(x > 0, y, tl.where(x == 0, float("inf"), float("nan")))


def log_bessel_kernel(nu_ptr, x_ptr, y_ptr, terms_ptr, u_ptr, n, SIGN: tl.constexpr, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    """The Triton kernel: log I (SIGN 1, FACTOR 1 / 2 pi) or log K (SIGN -1, FACTOR pi / 2) of n elements, BLOCK a program.

    terms: how many terms each octave of h takes, from h = 8 on, where the fallback still does.
    """
    # lanes beyond the end repeat the last element
    i = tl.minimum(tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK), n - 1)
    nu = tl.load(nu_ptr + i).to(tl.float64)
    x = tl.load(x_ptr + i).to(tl.float64)
    h = tl.sqrt(nu * nu + x * x)
    # the octave of h stands in the 11 bits below the sign of a float64
    octave = (h.to(tl.int64, bitcast=True) >> 52) & 2047
    terms = tl.load(terms_ptr + tl.minimum(tl.maximum(octave, 1026) - 1026, 8))
    # every lane takes as many terms as the neediest: more of them never hurt
    w = SIGN / h
    p = nu * nu / (h * h)
    total = large_order_sum(w, p, tl.max(terms, axis=0), u_ptr, BLOCK)
    y = (nu * tl.log(x / (nu + h)) + h) * SIGN + tl.log(total * total * FACTOR / h) * 0.5
    low = terms == 0
    if tl.max(low.to(tl.int32), axis=0) == 1:
        fallback = series_kernel(nu, x, BLOCK) if SIGN == 1 else trapezoid_kernel(nu, x, BLOCK)
        y = tl.where(low, fallback, y)
    # a negative x has made y NaN already
    y = tl.where(nu >= 0, y, float("nan"))
    tl.store(y_ptr + i, y.to(y_ptr.dtype.element_ty))


# --- the launchers


def log_iv(
    nu: torch.Tensor | float, x: torch.Tensor, *, backend: str = "auto", bucket: bool = False, block: int = 512
) -> torch.Tensor:
    """log I_nu(x), the log of the modified Bessel function of the first kind, elementwise, as a GPU kernel.

    nu, x: float32 or float64, both the same, broadcast against each other; nu may be a number.  Both 0 or 1e-150 to 1e150.
    bucket: sorts the elements by branch first, so that all of a program need the same work (on Triton; elsewhere always so).
    block: elements of one program, a power of two.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns a new tensor of the broadcast shape: log I_0(0) = 0, -inf at x = 0 for nu > 0, NaN where nu or x is negative or NaN.
    Error in float64: 4e-14 of the largest of 1, |log I| and h / 100 (the last counts only near log I = 0, where the last bit
    of nu alone moves the result as far).  float32 is computed in float64 and rounded once.
    Differentiable in x > 0, as often as wanted.  No derivative in nu: raises ValueError where nu requires one.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: log-bessel, expansion for large orders; the rest this book.
    """
    return _launch(nu, x, 1, backend, bucket, block)


def log_kv(
    nu: torch.Tensor | float, x: torch.Tensor, *, backend: str = "auto", bucket: bool = False, block: int = 512
) -> torch.Tensor:
    """log K_nu(x), the log of the modified Bessel function of the second kind, elementwise, as a GPU kernel.

    All as in log_iv, except that the value at x = 0 is inf.
    Source: log-bessel, expansion for large orders; the trapezoid rule is this book's.
    """
    return _launch(nu, x, -1, backend, bucket, block)


def _launch(nu: torch.Tensor | float, x: torch.Tensor, sign: int, backend: str, bucket: bool, block: int) -> torch.Tensor:
    if block < 1 or block & (block - 1):
        raise ValueError(f"block={block}: expected a power of two")
    nu, x = _prepared(nu, x)
    how = ("bucket" if bucket else "triton", block) if uses_triton(backend, x) else ("reference", "lean")
    return _LogBessel.apply(nu, x, sign, *how)


def _prepared(nu: torch.Tensor | float, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both checked and of one shape."""
    order: Any = nu
    if isinstance(nu, (int, float)) and isinstance(x, torch.Tensor):
        order = torch.full((), nu, dtype=x.dtype, device=x.device)
    # neither need lie contiguous: a broadcast one does not either
    check_tensors(FLOATS, **{k: t.contiguous() if isinstance(t, torch.Tensor) else t for k, t in (("x", x), ("nu", order))})
    if order.requires_grad and torch.is_grad_enabled():
        raise ValueError("nu requires a gradient: expected a tensor without, only the derivative in x is known; pass nu.detach()")
    try:
        order, x = torch.broadcast_tensors(order, x)
    except RuntimeError:
        shapes = f"nu has shape {tuple(order.shape)}: expected one that broadcasts with that of x, {tuple(x.shape)}"
        raise ValueError(shapes) from None
    return order, x


class _LogBessel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, nu: torch.Tensor, x: torch.Tensor, sign: int, how: str, setting: Any) -> torch.Tensor:
        flat_nu, flat_x = nu.contiguous().view(-1), x.contiguous().view(-1)
        if how == "reference":
            y = _evaluate(flat_nu, flat_x, sign, setting)
        elif how == "bucket":
            order = torch.argsort(branch(flat_nu.double(), flat_x.double()), stable=True)
            y = torch.empty_like(flat_x)
            y[order] = _run(flat_nu[order], flat_x[order], sign, setting)
        else:
            y = _run(flat_nu, flat_x, sign, setting)
        ctx.save_for_backward(nu, x)
        ctx.choice = (sign, how, setting)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        nu, x = ctx.saved_tensors
        # in float64, since rounding the two logarithms would show in their difference
        wide_nu, wide_x = nu.double(), x.double()
        following, here = (_LogBessel.apply(wide_nu + more, wide_x, *ctx.choice) for more in (1, 0))
        sign = ctx.choice[0]
        slope = wide_nu / wide_x + sign * torch.exp(following - here)
        return None, gradients[0] * slope.to(x.dtype), None, None, None


def _run(nu: torch.Tensor, x: torch.Tensor, sign: int, block: int) -> torch.Tensor:
    y = torch.empty_like(x)
    if x.numel():
        tables = _tables(x.device)
        grid = (-(-x.numel() // block),)
        launch(
            log_bessel_kernel, grid, nu, x, y, *tables, x.numel(), SIGN=sign, FACTOR=_factor(sign), BLOCK=block, helpers=HELPERS
        )
    return y


@functools.cache
def _tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For the kernel: terms by octave, and the coefficients of P_1, P_2, ..., each from its highest down."""
    coefficients = [float(c) for row in u_polynomials(max(TERMS)) for c in reversed(row)]
    terms = torch.tensor(TERMS[:LEAN], dtype=torch.int32, device=device)
    return terms, torch.tensor(coefficients, dtype=torch.float64, device=device)


HELPERS = (large_order_sum, series_kernel, trapezoid_kernel)


# --- the registrations


def _corner(generator, dtype):
    """Both small, so that the fallbacks are taken; 37 of them, from 1e-3 to 16."""
    nu, x = (16 * 10 ** (-4.2 * torch.rand(37, generator=generator, dtype=torch.float64)) for _ in range(2))
    return dict(nu=(0.7 * nu).to(dtype), x=(0.7 * x).to(dtype))


def _ring(least: float, most: float, n: int):
    """h between two bounds, nu / x of every size."""

    def make(generator, dtype):
        h = least * (most / least) ** torch.rand(n, generator=generator, dtype=torch.float64)
        angle = 0.5 * math.pi * torch.linspace(0, 1, n, dtype=torch.float64).clamp(0, 0.999)
        return dict(nu=(h * angle.sin()).to(dtype), x=(h * angle.cos()).to(dtype))

    return make


def _edges(generator, dtype):
    """Zeros, negatives, NaN, and what is far out, beside one of every branch."""
    nu = [0.0, 0.0, 0.5, 20.0, -0.5, -30.0, 0.0, 2.0, torch.nan, 1.0, 0.0, 16383.0, 3e4, 11.0, 0.3, 15.5]
    x = [0.0, 1e-6, 0.0, 0.0, 1.0, 50.0, -1.0, -40.0, 1.0, torch.nan, 3000.0, 100.0, 1e-3, 11.0, 15.0, 1e-30]
    return dict(nu=torch.tensor(nu, dtype=dtype), x=torch.tensor(x, dtype=dtype))


def _broadcast(generator, dtype):
    nu = torch.tensor([[0.0], [4.5], [100.0]], dtype=dtype)
    return dict(nu=nu, x=(0.5 + 20 * torch.rand(1, 3, generator=generator, dtype=torch.float64)).to(dtype))


_CASES = (
    Case("the corner of the fallbacks", _corner, tuning=dict(block=16)),
    Case("broadcast, bucketed", _broadcast, ("x",), dict(block=16, bucket=True)),
    *(Case(f"h in [{a}, {b})", _ring(a, b, 11), tuning=dict(block=8)) for a, b in ((16, 32), (32, 64), (128, 256), (256, 1024))),
    Case("h in [2048, 1e5)", _ring(2048, 1e5, 21), tuning=dict(block=8)),
    Case("edges", _edges, tuning=dict(block=4)),
    Case("edges in one program", _edges, tuning=dict(block=16)),
)


def _bench(generator, dtype, device):
    nu, x = (10 ** (-2 + 7 * torch.rand(1 << 22, generator=generator, dtype=torch.float64)) for _ in range(2))
    return dict(nu=nu.to(dtype).to(device), x=x.to(dtype).to(device))


def _bench_orders(generator, dtype, device):
    nu, x = (1000 + 3000 * torch.rand(1 << 22, generator=generator, dtype=torch.float64) for _ in range(2))
    return dict(nu=nu.to(dtype).to(device), x=x.to(dtype).to(device))


def _scale(inputs, exact):
    # near log = 0 two numbers of size h cancel
    return torch.maximum(exact.abs(), torch.hypot(inputs["nu"], inputs["x"]) / 100).clamp_min(1)


def _work(inputs):
    n = inputs["x"].numel()
    return Work(bytes=24 * n, flops=150 * n, unit="fp64", special=3 * n)


def _peers(name: str, reference: Callable[..., torch.Tensor], launcher: Callable[..., torch.Tensor]) -> dict[str, Any]:
    def scipy(inputs):
        import numpy as np
        from scipy import special

        nu, x = inputs["nu"].cpu().double().numpy(), inputs["x"].cpu().double().numpy()
        function, sign = (special.ive, 1) if name == "log_iv" else (special.kve, -1)

        def run():
            with np.errstate(divide="ignore"):
                return np.log(function(nu, x)) + sign * x

        return run

    return {
        "torch, branch by branch": lambda inputs: lambda: reference(**inputs),
        "bucketed": lambda inputs: lambda: launcher(**inputs, bucket=True),
        "SciPy on the host": scipy,
    }


_EQUIVALENT = {
    "log_iv": {
        "log_bessel_kernel: factor dropped (SIGN): "
        "y = (nu * tl.log(x / (nu + h)) + h) * SIGN + tl.log(total * total * FACTOR / h) * 0.5": "SIGN is 1",
    },
    "log_kv": {
        "trapezoid_kernel: last turn of the loop missed: for _ in range(nodes):": "the last value is below 1e-16 of the sum",
    },
}

for _name, _sign, _launcher, _reference in (("log_iv", 1, log_iv, log_iv_reference), ("log_kv", -1, log_kv, log_kv_reference)):
    register(
        Kernel(
            name=_name,
            formula=f"y = log {'I' if _sign > 0 else 'K'}_nu(x)",
            launcher=_launcher,
            reference=_reference,
            kernels=(log_bessel_kernel, large_order_sum, series_kernel if _sign > 0 else trapezoid_kernel),
            cases=_CASES,
            equivalent=_EQUIVALENT[_name],
            tolerance={torch.float32: 1e-7, torch.float64: 3e-14},
            gradient_tolerance={torch.float32: 2e-7, torch.float64: 1e-12},
            scale=_scale,
            targets=tuple(
                Target(
                    log_bessel_kernel,
                    dict(nu_ptr=t, x_ptr=t, y_ptr=t, terms_ptr="*i32", u_ptr="*fp64", n="i32"),
                    dict(SIGN=_sign, FACTOR=_factor(_sign), BLOCK=512),
                    helpers=HELPERS,
                )
                for t in ("*fp32", "*fp64")
            ),
            benches=tuple(
                Bench(what, make, torch.float64, _work, _peers(_name, _reference, _launcher), devices=("cpu", "cuda"))
                for what, make in (("4 M, log-uniform up to 1e5", _bench), ("4 M, both in 1000..4000", _bench_orders))
            ),
        )
    )
