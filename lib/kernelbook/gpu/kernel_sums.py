r"""Kernel sums: s_i = sum_j w_j k(x_i, y_j), without ever forming the Gram matrix; one program for each block of queries i.

Four ways to reduce the row k(x_i, y_1), ..., k(x_i, y_m):

    sum        s_i = \sum_j k_{ij} w_j
    squares    s_i = \sum_j k_{ij}^2
    logsumexp  s_i = \log \sum_j w_j k_{ij}, out of log k, so that nothing underflows
    softmax    s_i = \sum_j k_{ij} w_j / \sum_j k_{ij}: kernel smoother, attention, the exact denoiser of a finite data set

and five kernels of r = |x - y| / bandwidth: gaussian exp(-r^2 / 2), laplacian exp(-r), cauchy 1 / (1 + r^2),
matern32 (1 + \sqrt 3 r) exp(-\sqrt 3 r), and polynomial (x.y / bandwidth^2 + offset)^degree.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernels below name tl before Triton has been imported

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

KERNELS = ("gaussian", "laplacian", "cauchy", "matern32", "polynomial")
REDUCES = ("sum", "squares", "logsumexp", "softmax")
DIRECT = 8  # up to so many coordinates, squared distances come from differences, or from sums that are exact
TILE = 1 << 20  # bytes of a tile of the Gram matrix on the CPU: two or three of them fit into the second-level cache
WIDEST = 128  # coordinates or columns that one tile of a GPU holds


def kernel_sums_reference(
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    kernel: str = "gaussian",
    bandwidth: float | torch.Tensor = 1.0,
    reduce: str = "sum",
    degree: int = 3,
    offset: float = 1.0,
) -> torch.Tensor:
    """The definition in plain torch, Gram matrix and all: O(n m d) memory.

    Arguments and result as in `kernel_sums`.  Source: the definitions in this file's first lines.
    """
    h = bandwidth[..., None] if isinstance(bandwidth, torch.Tensor) and bandwidth.dim() else bandwidth
    if kernel == "polynomial":
        log_k, k = None, (x @ y.mT / h**2 + offset) ** degree
    else:
        q = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1) / h**2
        r = torch.where(q > 0, q, 1).sqrt() * (q > 0)  # the slope of |x - y| at 0 is taken as 0
        a = math.sqrt(3) * r
        log_k = dict(gaussian=-q / 2, laplacian=-r, cauchy=-q.log1p(), matern32=a.log1p() - a)[kernel]
        k = log_k.exp()
    w = weights[..., None] if weights is not None and weights.dim() < y.dim() else weights
    if reduce == "logsumexp":
        assert log_k is not None
        return torch.logsumexp(log_k if w is None else log_k + w.mT.log(), -1)
    if reduce == "squares" or w is None:
        return (k**2 if reduce == "squares" else k).sum(-1)
    sums = (k if log_k is None or reduce == "sum" else log_k.softmax(-1)) @ w
    return sums if w is weights else sums[..., 0]


@dataclass(frozen=True)
class _Row:
    """What is done with a row of kernel values: `kernel` to the given power, summed as `reduce` says."""

    kernel: str
    reduce: str  # sum, logsumexp or softmax: the sum of squares is a sum with power 2
    power: int
    degree: int
    offset: float
    biased: bool = False  # logsumexp with weights, which come as logarithms

    @property
    def radial(self) -> bool:
        return self.kernel != "polynomial"

    @property
    def factor(self) -> float:
        """t = factor |x - y|^2 / bandwidth^2 is what the kernel is computed from: exp(t), exp(-sqrt t), ..."""
        return {"gaussian": -0.5, "matern32": 3.0}.get(self.kernel, 1.0)

    def simplest(self) -> _Row:
        """The same row with power 1, where the squared kernel is one of the family again."""
        if self.kernel == "polynomial" and self.power == 2:
            return replace(self, power=1, degree=2 * self.degree)
        return self


# The CPU: tile by tile, each as large as the cache likes, and every step in place.


class _Tiles:
    """The tiles of t for x (b, n, d) and y (b, m, d), with t = scale |x - y|^2 or, for the polynomial, scale x.y."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, row: _Row, buffers: int):
        self.row, self.after, self.points = row, None, (x, y)
        self.factors: list[tuple[torch.Tensor, torch.Tensor]]
        if row.kernel == "laplacian":
            # its corner at r = 0 turns an error of 1e-10 in r^2 into one of 1e-5: differences of coordinates make none
            self.factors, self.after = [], scale[..., None]
        elif not row.radial:
            self.factors = [(x * scale[..., None], y.mT)]
        elif x.shape[-1] > DIRECT:
            self.factors = [(_augmented(x, first=True) * scale[..., None], _augmented(y, first=False).mT)]
        else:
            self.factors, self.after = _exact_factors(x, y), scale[..., None]
        (b, n, _), m = x.shape, y.shape[1]
        elements = TILE // x.element_size()
        self.columns = min(m, max(1, min(1024, elements)))
        self.rows = min(n, max(1, elements // self.columns))
        self.batches = min(b, max(1, elements // (self.rows * self.columns)))
        self.shape = b, n, m
        self.memory = [
            torch.empty(self.batches * self.rows * self.columns, dtype=x.dtype, device=x.device) for _ in range(buffers)
        ]

    def blocks(self, length: int, step: int) -> Iterator[slice]:
        return (slice(start, min(start + step, length)) for start in range(0, length, step))

    def __iter__(self) -> Iterator[tuple[Any, Any, list[torch.Tensor]]]:
        """(queries, sources, buffers) of each tile; t stands in the first buffer.  All sources before the next queries."""
        b, n, m = self.shape
        for batch in self.blocks(b, self.batches):
            at = batch if self.batches > 1 else batch.start  # a single batch gives matrices, which torch multiplies faster
            for rows in self.blocks(n, self.rows):
                for columns in self.blocks(m, self.columns):
                    shape = (batch.stop - batch.start,) * (self.batches > 1) + (
                        rows.stop - rows.start,
                        columns.stop - columns.start,
                    )
                    tiles = [memory[: math.prod(shape)].view(shape) for memory in self.memory]
                    if not self.factors:
                        tiles[0].copy_(_distances(self.points[0][at, rows], self.points[1][at, columns])).square_()
                    for i, (left, right) in enumerate(self.factors):
                        if i == 0:
                            torch.matmul(left[at, rows], right[at, :, columns], out=tiles[0])
                        else:
                            _add_product(tiles[0], left[at, rows], right[at, :, columns])
                    if self.after is not None:
                        tiles[0].mul_(self.after[at, rows])
                    yield (at, rows), (at, columns), tiles


def _distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    (out.baddbmm_ if out.dim() == 3 else out.addmm_)(a, b)


def _square(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum(-1, keepdim=True)


def _augmented(x: torch.Tensor, *, first: bool) -> torch.Tensor:
    """(-2 x, |x|^2, 1) or (x, 1, |x|^2): the product of one with the other is a squared distance."""
    one = x.new_ones(1).expand(*x.shape[:-1], 1)
    return torch.cat([-2 * x, _square(x), one] if first else [x, one, _square(x)], -1)


def _exact_factors(x: torch.Tensor, y: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Factors of |x - y|^2 that lose nothing to cancellation: coordinates on a grid, and the little that is left over.

    On the grid all terms are whole numbers so small that the floating point adds them without rounding, in any order;
    the rest is thousands of times smaller, and so is its error.  Source: the splitting of Ozaki et al. (2012).
    """
    digits = {torch.float32: 24, torch.float64: 53}[x.dtype]
    bits = math.floor((digits - math.log2(4 * x.shape[-1])) / 2)
    largest = max(float(x.abs().max()), float(y.abs().max()), torch.finfo(x.dtype).tiny)
    unit = 2.0 ** (math.ceil(math.log2(largest)) - bits)
    x_grid, y_grid = (x / unit).round() * unit, (y / unit).round() * unit
    x_rest, y_rest = x - x_grid, y - y_grid
    x_left = 2 * (x_grid * x_rest).sum(-1, keepdim=True) + _square(x_rest)
    y_left = 2 * (y_grid * y_rest).sum(-1, keepdim=True) + _square(y_rest)
    one_x, one_y = torch.ones_like(x_left), torch.ones_like(y_left)
    rest_x = torch.cat([-2 * x_grid, -2 * x_rest, x_left, one_x], -1)
    rest_y = torch.cat([y_rest, y, one_y, y_left], -1)
    return [(_augmented(x_grid, first=True), _augmented(y_grid, first=False).mT), (rest_x, rest_y.mT)]


def _log_value_(t: torch.Tensor, spare: torch.Tensor, row: _Row) -> torch.Tensor:
    """log k, in the memory of t."""
    if row.kernel == "gaussian":
        return t
    if row.kernel == "laplacian":
        return t.clamp_min_(0).sqrt_().neg_()
    if row.kernel == "cauchy":
        return t.clamp_min_(0).add_(1).log_().neg_()
    a = t.clamp_min_(0).sqrt_()
    return a.neg_().add_(torch.sub(1, a, out=spare).log_())


def _value_(t: torch.Tensor, spare: torch.Tensor, row: _Row) -> torch.Tensor:
    """k^power, in the memory of t."""
    if row.kernel in ("gaussian", "laplacian"):
        k = _log_value_(t, spare, row).exp_()
    elif row.kernel == "cauchy":
        k = t.add_(1).reciprocal_()
    elif row.kernel == "matern32":
        a = t.clamp_min_(0).sqrt_()
        k = torch.neg(a, out=spare).exp_().addcmul_(spare, a)
        k = t.copy_(k)
    else:
        k = t.add_(row.offset).pow_(row.degree)
    return k.square_() if row.power == 2 else k


def _slope_(t: torch.Tensor, k: torch.Tensor, out: torch.Tensor, row: _Row) -> torch.Tensor:
    """d k^power / d t in `out`, given k^power; for logsumexp and softmax k is already normalized."""
    if row.kernel == "gaussian":
        return torch.mul(k, row.power, out=out)
    if row.kernel == "laplacian":
        torch.clamp_min(t, 0, out=out).sqrt_().reciprocal_().mul_(-0.5 * row.power).mul_(k)
        return out.masked_fill_(t <= 0, 0)
    if row.kernel == "cauchy":
        return torch.add(t, 1, out=out).reciprocal_().mul_(-row.power).mul_(k)
    if row.kernel == "matern32":
        return torch.clamp_min(t, 0, out=out).sqrt_().add_(1).reciprocal_().mul_(-0.5 * row.power).mul_(k)
    return torch.add(t, row.offset, out=out).pow_(row.degree - 1).mul_(row.degree)


def chunked_sums(
    x: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, weights: torch.Tensor | None, row: _Row
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The sums on the CPU, tile by tile: O((n + m)(d + c)) memory.

    x: (b, n, d), y: (b, m, d), scale: (b, n), weights: (b, m, c) or None.
    Returns the sums (b, n, c or 1), and for softmax log sum_j k_ij (b, n, 1) too.
    Source: the definitions above; the running maximum is Milakov and Gimelshein (2018).
    """
    (b, n, _), c = x.shape, 1 if weights is None or row.biased else weights.shape[-1]
    out, total = x.new_zeros(b, n, c), x.new_zeros(b, n, 1)
    best = x.new_full((b, n, 1), -math.inf)
    for queries, sources, (t, spare) in _Tiles(x, y, scale, row, 2):
        if row.reduce == "sum":
            k = _value_(t, spare, row)
        else:
            logit = _log_value_(t, spare, row)
            if row.biased:
                assert weights is not None
                logit.add_(weights[sources].mT)
            top = torch.maximum(best[queries], logit.amax(-1, keepdim=True))
            fade = (best[queries] - top).exp_()
            best[queries], k = top, logit.sub_(top).exp_()
            total[queries] = total[queries].mul_(fade).add_(k.sum(-1, keepdim=True))
            out[queries] *= fade
        if weights is not None and not row.biased:
            _add_product(out[queries], k, weights[sources])
        elif row.reduce == "sum":
            out[queries] += k.sum(-1, keepdim=True)
    if row.reduce == "sum":
        return out, None
    lse = total.log_().add_(best)
    return (lse, None) if row.reduce == "logsumexp" else (out.div_((lse - best).exp_()), lse)


def chunked_gradients(
    x: torch.Tensor,
    y: torch.Tensor,
    scale: torch.Tensor,
    weights: torch.Tensor | None,
    row: _Row,
    shift: torch.Tensor | None,
    delta: torch.Tensor | None,
    g: torch.Tensor,
    needs: tuple[bool, ...] = (True,) * 4,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients in x, y, scale and weights on the CPU, each tile computed again: O((n + m)(d + c)) memory.

    shift: (b, n, 1) logarithm that a row of k was divided by, None for plain sums; delta: (b, n, 1), g.out for softmax.
    g: (b, n, c) gradient in the sums.  needs: which of the four are wanted.
    Source: the chain rule, with row statistics as in Dao et al. (2022), appendix B.
    """
    d = x.shape[-1]
    one_x, one_y = x.new_ones(1).expand(*x.shape[:-1], 1), x.new_ones(1).expand(*y.shape[:-1], 1)
    # dt_ij / dx_i = 2 scale_i (x_i - y_j), or scale_i y_j: both sums over j come out of one product with (y, 1)
    y_one = torch.cat([y, one_y], -1) if row.radial else y
    x_one = scale[..., None] * (torch.cat([x, one_x], -1) if row.radial else x)
    to_x, to_y, to_scale = (
        x.new_zeros(*x.shape[:-1], y_one.shape[-1]),
        torch.zeros_like(y_one),
        torch.zeros_like(scale[..., None]),
    )
    to_w = None if weights is None else torch.zeros_like(weights)
    for queries, sources, (t, k, p, spare) in _Tiles(x, y, scale, row, 4):
        if shift is None:
            _value_(k.copy_(t), spare, row)
        else:
            _log_value_(k.copy_(t), spare, row).sub_(shift[queries])
            if row.biased:
                assert weights is not None
                k.add_(weights[sources].mT)
            k.exp_()
        if to_w is not None and needs[3]:
            _add_product(to_w[sources], k.mT, g[queries])
        if not any(needs[:3]):
            continue
        _slope_(t, k, p, row)
        if weights is None or row.biased:
            p.mul_(g[queries])
        else:
            torch.matmul(g[queries], weights[sources].mT, out=spare)
            p.mul_(spare if delta is None else spare.sub_(delta[queries]))
        if needs[0]:
            _add_product(to_x[queries], p, y_one[sources])
        if needs[1]:
            _add_product(to_y[sources], p.mT, x_one[queries])
        if needs[2]:
            to_scale[queries] += t.mul_(p).sum(-1, keepdim=True)
    to_scale = to_scale / scale[..., None]
    if not row.radial:
        return to_x * scale[..., None], to_y, to_scale[..., 0], to_w
    to_x = 2 * scale[..., None] * (x * to_x[..., d:] - to_x[..., :d])
    return to_x, 2 * (y * to_y[..., d:] - to_y[..., :d]), to_scale[..., 0], to_w


# The GPU: one kernel for the sums and for all gradients, a program for a block of rows, tiles in registers.


def pairs(a_ptr, b_ptr, i, j, in_i, in_j, WIDTH, DISTANCE: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr):
    """|a_i - b_j|^2, or a_i.b_j, for the rows i and j of two matrices with WIDTH columns."""
    t = tl.zeros((BLOCK, BLOCK), a_ptr.dtype.element_ty)
    if DOT:
        for start in range(0, WIDTH, 32):
            c = start + tl.arange(0, 32)
            a = tl.load(a_ptr + i[:, None] * WIDTH + c[None, :], mask=in_i[:, None] & (c[None, :] < WIDTH), other=0.0)
            b = tl.load(b_ptr + j[None, :] * WIDTH + c[:, None], mask=in_j[None, :] & (c[:, None] < WIDTH), other=0.0)
            p = tl.dot(a, b, input_precision="ieee")
            if DISTANCE:
                p = tl.sum(a * a, axis=1)[:, None] + tl.sum(b * b, axis=0)[None, :] - 2 * p
            t += p
    else:
        for c in range(WIDTH):
            a = tl.load(a_ptr + i * WIDTH + c, mask=in_i)[:, None]
            b = tl.load(b_ptr + j * WIDTH + c, mask=in_j)[None, :]
            # differences of coordinates cancel nothing that matters, products of them would
            t += (a - b) * (a - b) if DISTANCE else a * b
    return t


def log_kernel(q, KERNEL: tl.constexpr):
    """log k as a function of q = r^2."""
    if KERNEL == "gaussian":
        log_k = q * -0.5
    elif KERNEL == "laplacian":
        log_k = q * -tl.rsqrt(tl.maximum(q, 1e-30))
    elif KERNEL == "cauchy":
        log_k = -tl.log(q + 1)
    else:
        a = tl.sqrt(q * 3)
        log_k = tl.log(a + 1) - a
    return log_k


def log_slope(q, KERNEL: tl.constexpr):
    """d log k / d q; the Laplacian's, infinite at q = 0, is taken as 0 there."""
    if KERNEL == "gaussian":
        slope = tl.full(q.shape, -0.5, q.dtype)
    elif KERNEL == "laplacian":
        slope = tl.where(q > 0, tl.rsqrt(tl.maximum(q, 1e-30)) * -0.5, 0.0)
    elif KERNEL == "cauchy":
        slope = -1 / (q + 1)
    else:
        slope = -1.5 / (tl.sqrt(q * 3) + 1)
    return slope


def power(p, EXPONENT: tl.constexpr):
    """p to a whole power."""
    k = tl.full(p.shape, 1.0, p.dtype)
    for _ in tl.static_range(EXPONENT):
        k *= p
    return k


def along(ptr, i, j, in_i, in_j, ROWS: tl.constexpr):
    """One number for each row of the tile, or for each column."""
    return tl.load(ptr + i, mask=in_i)[:, None] if ROWS else tl.load(ptr + j, mask=in_j)[None, :]


def kernel_sums_kernel(
    a_ptr,
    b_ptr,
    right_ptr,
    out_ptr,
    sum_ptr,
    moment_ptr,
    lse_ptr,
    scale_ptr,
    bias_ptr,
    g_ptr,
    w_ptr,
    delta_ptr,
    rows,
    columns,
    D,
    C,
    W,
    OFFSET: tl.constexpr,
    KERNEL: tl.constexpr,
    EXPONENT: tl.constexpr,
    LOGS: tl.constexpr,
    ONLINE: tl.constexpr,
    MEAN: tl.constexpr,
    SLOPE: tl.constexpr,
    QUERIES: tl.constexpr,
    DOT: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """The Triton kernel: out = M right for a matrix M (rows, columns) that is made tile by tile and never stored.

    The rows of M are queries and its columns sources (QUERIES), or the other way round.  M_ij is
    k^EXPONENT (or p^EXPONENT for the polynomial), normalized by lse where LOGS; with ONLINE lse is found on the way and
    MEAN divides by the row's total; with SLOPE it is the derivative of the loss in r^2, times scale, with
    g_i.w_j - delta_i the derivative in the kernel's value, and sum_j M_ij and sum_j M_ij q_ij are kept too.
    """
    # i, j: rows of a and b, counted through all batches
    batch = tl.program_id(1).to(tl.int64)
    local_i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_i = local_i < rows
    i = batch * rows + local_i
    c = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    out = tl.zeros((BLOCK, BLOCK_W), out_ptr.dtype.element_ty)
    total = tl.zeros((BLOCK,), out_ptr.dtype.element_ty)
    moment = tl.zeros((BLOCK,), out_ptr.dtype.element_ty)
    best = tl.full((BLOCK,), -float("inf"), out_ptr.dtype.element_ty)
    for start in range(0, columns, BLOCK):
        local_j = start + tl.arange(0, BLOCK)
        in_j = local_j < columns
        j = batch * columns + local_j
        # q = r^2, or x.y / bandwidth^2
        scale = along(scale_ptr, i, j, in_i, in_j, QUERIES)
        q = pairs(a_ptr, b_ptr, i, j, in_i, in_j, D, KERNEL != "polynomial", DOT, BLOCK) * scale
        if KERNEL == "polynomial":
            m = power(q + OFFSET, EXPONENT)
            if SLOPE:
                m = power(q + OFFSET, EXPONENT - 1) * EXPONENT
        else:
            if DOT:
                q = tl.maximum(q, 0.0)
            logit = log_kernel(q, KERNEL) * EXPONENT
            if LOGS:
                logit += along(bias_ptr, i, j, in_i, in_j, not QUERIES)
            if ONLINE:
                # what was summed so far is rescaled whenever a larger term turns up
                logit = tl.where(in_j[None, :], logit, -float("inf"))
                largest = tl.maximum(best, tl.max(logit, axis=1))
                fade = tl.exp(best - largest)
                logit -= largest[:, None]
                out *= fade[:, None]
                total *= fade
                best = largest
            elif LOGS:
                logit -= along(lse_ptr, i, j, in_i, in_j, QUERIES)
            m = tl.exp(logit)
            if SLOPE:
                m *= log_slope(q, KERNEL) * EXPONENT
        if SLOPE:
            if QUERIES:
                e = pairs(g_ptr, w_ptr, i, j, in_i, in_j, C, False, DOT, BLOCK)
            else:
                e = pairs(w_ptr, g_ptr, i, j, in_i, in_j, C, False, DOT, BLOCK)
            m *= (e - along(delta_ptr, i, j, in_i, in_j, QUERIES)) * scale
        if not ONLINE:
            m = tl.where(in_j[None, :], m, 0.0)
        right = tl.load(right_ptr + j[:, None] * W + c[None, :], mask=in_j[:, None] & (c[None, :] < W), other=0.0)
        if DOT:
            out = tl.dot(m, right, out, input_precision="ieee")
        else:
            out += tl.sum(m[:, :, None] * right[None, :, :], axis=1)
        total += tl.sum(m, axis=1)
        if SLOPE:
            moment += tl.sum(m * q, axis=1)
    if MEAN:
        out /= total[:, None]
    tl.store(out_ptr + i[:, None] * W + c[None, :], out, mask=in_i[:, None] & (c[None, :] < W))
    # the programs of other columns write the same numbers
    if ONLINE:
        tl.store(lse_ptr + i, best + tl.log(total), mask=in_i)
    if SLOPE:
        tl.store(sum_ptr + i, total, mask=in_i)
        tl.store(moment_ptr + i, moment, mask=in_i)


POINTERS = ("a", "b", "right", "out", "sum", "moment", "lse", "scale", "bias", "g", "w", "delta")
HELPERS = (pairs, log_kernel, log_slope, power, along)


@dataclass(frozen=True)
class _Grid:
    """How a call is cut into programs."""

    block: int

    def run(self, row: _Row, a: Any, b: Any, right: Any, scale: Any, *, queries: bool, **parts: Any) -> tuple[Any, Any, Any, Any]:
        """(out, sum, moment, lse) of one launch; parts: lse, bias, g, w, delta, slope, online, mean where they apply."""
        (batches, rows, d), columns, width = a.shape, b.shape[1], right.shape[-1]
        dot = a.dtype == torch.float32 and max(d, width) > DIRECT and row.kernel != "laplacian"
        block_w = min(64, max(16, _power_of_two(width))) if dot else min(4, _power_of_two(width))
        out = torch.empty(batches, rows, width, dtype=a.dtype, device=a.device)
        slope, online = parts.get("slope", False), parts.get("online", False)
        kept = [torch.empty(batches, rows, dtype=a.dtype, device=a.device) for _ in range(3)]
        lse = parts.get("lse") if parts.get("lse") is not None else kept[2]
        g, w = (parts[k] if slope else right for k in ("g", "w"))
        zero = scale.new_zeros(batches, max(rows, columns))
        bias, delta = (zero if parts.get(k) is None else parts[k] for k in ("bias", "delta"))
        grid = (-(-rows // self.block), batches, -(-width // block_w))
        sizes = (rows, columns, d, g.shape[-1], width)
        pointers = (a, b, right, out, kept[0], kept[1], lse, scale, bias, g, w, delta)
        constants = dict(
            OFFSET=row.offset,  # not an argument: Triton takes a number for float32
            KERNEL=row.kernel,
            EXPONENT=row.power if row.radial else row.degree,
            LOGS=row.reduce != "sum",
            ONLINE=online,
            MEAN=parts.get("mean", False),
            SLOPE=slope,
            QUERIES=queries,
            DOT=dot,
            BLOCK=self.block,
            BLOCK_W=block_w,
        )
        launch(kernel_sums_kernel, grid, *pointers, *sizes, helpers=HELPERS, num_warps=8, **constants)
        return out, kept[0], kept[1], lse


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _triton_sums(x: Any, y: Any, scale: Any, weights: Any, row: _Row, grid: _Grid) -> tuple[Any, Any]:
    """As chunked_sums, in one launch."""
    right = y.new_ones(*y.shape[:-1], 1) if weights is None or row.biased else weights
    online = row.reduce != "sum"
    bias = weights[..., 0].contiguous() if row.biased else None
    out, _, _, lse = grid.run(row, x, y, right, scale, queries=True, online=online, mean=row.reduce == "softmax", bias=bias)
    lse = lse[..., None]
    return (out, None) if row.reduce == "sum" else (lse, None) if row.reduce == "logsumexp" else (out, lse)


def _triton_gradients(
    x: Any, y: Any, scale: Any, weights: Any, row: _Row, shift: Any, delta: Any, g: Any, grid: _Grid, needs: tuple[bool, ...]
) -> tuple[Any, Any, Any, Any]:
    """As chunked_gradients, in up to three launches: in the queries, in the sources, in the weights."""
    bias = weights[..., 0].contiguous() if row.biased else None
    w = y.new_ones(*y.shape[:-1], 1) if weights is None or row.biased else weights
    rest = dict(bias=bias, lse=None if shift is None else shift[..., 0].contiguous(), g=g, w=w, slope=True)
    rest["delta"] = None if delta is None else delta[..., 0].contiguous()
    to_x = to_y = to_scale = to_w = None
    if needs[0] or needs[2]:
        to_x, total, moment, _ = grid.run(row, x, y, y, scale, queries=True, **rest)
        to_x, to_scale = 2 * (x * total[..., None] - to_x) if row.radial else to_x, moment / scale**2
    if needs[1]:
        to_y, total, _, _ = grid.run(row, y, x, x, scale, queries=False, **rest)
        to_y = 2 * (y * total[..., None] - to_y) if row.radial else to_y
    if needs[3] and weights is not None:
        to_w, _, _, _ = grid.run(row, y, x, g, scale, queries=False, **(rest | dict(slope=False)))
    return to_x, to_y, to_scale, to_w


class _KernelSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, scale: Any, weights: Any, row: _Row, grid: _Grid | None) -> torch.Tensor:
        parts = (x, y, scale, weights, row)
        out, lse = chunked_sums(*parts) if grid is None else _triton_sums(*parts, grid)
        ctx.save_for_backward(x, y, scale, weights, out, lse)
        ctx.choice = row, grid
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        x, y, scale, weights, out, lse = ctx.saved_tensors
        row, grid = ctx.choice
        g = g.contiguous()
        shift = out if row.reduce == "logsumexp" else lse
        delta = (g * out).sum(-1, keepdim=True) if row.reduce == "softmax" else None
        parts, needs = (x, y, scale, weights, row, shift, delta, g), ctx.needs_input_grad[:4]
        found = chunked_gradients(*parts, needs) if grid is None else _triton_gradients(*parts, grid, needs)
        return *(v if need else None for v, need in zip(found, needs, strict=True)), None, None


def kernel_sums(
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    kernel: str = "gaussian",
    bandwidth: float | torch.Tensor = 1.0,
    reduce: str = "sum",
    degree: int = 3,
    offset: float = 1.0,
    backend: str = "auto",
    block: int = 64,
) -> torch.Tensor:
    """Sums of k(x_i, y_j) over j in O(n + m) memory: the Gram matrix is made tile by tile and never stored.

    x: (..., n, d) queries, y: (..., m, d) sources with the same leading axes, float32 or float64, contiguous, none empty.
    weights: None, (..., m), or (..., m, c).
    kernel: gaussian, laplacian, cauchy, matern32, or polynomial with a degree and an offset.
    bandwidth: positive; a number, a tensor without axes, or (..., n), one for each query.
    reduce: "sum" (of w_j k_ij); "squares" (of k_ij^2, no weights); "logsumexp" (log of the sum of w_j k_ij, weights (..., m)
    positive, not for the polynomial); "softmax" (the sum of w_j k_ij divided by that of k_ij: a weighted mean of weights).
    backend: "auto" takes Triton if and only if x is on CUDA; "triton" on the CPU needs the interpreter.
    block: queries of one GPU program, a power of two from 16 upwards.
    Returns (..., n), or (..., n, c) where weights are (..., m, c).
    Differentiable once, in x, y, weights and bandwidth, in the same memory; the slope of |x - y| at 0 is taken as 0.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Charlier et al. (2021) for the sums, Milakov and Gimelshein (2018) for the running maximum.
    """
    _check(x, y, weights, kernel, bandwidth, reduce, degree, offset, block)
    grid = _Grid(block) if uses_triton(backend, x) else None
    batch, c = x.shape[:-2], 1 if weights is None or weights.dim() < y.dim() else weights.shape[-1]
    h = torch.as_tensor(bandwidth, dtype=x.dtype, device=x.device)
    row = _Row(kernel, "sum" if reduce == "squares" else reduce, 2 if reduce == "squares" else 1, degree, float(offset))
    row = replace(row.simplest(), biased=reduce == "logsumexp" and weights is not None)
    if row.radial:
        # distances do not change when all points move; near the origin fewer of their digits cancel
        center = y.detach().mean(-2, keepdim=True)
        x, y = x - center, y - center
    w = None if weights is None else weights.reshape(-1, y.shape[-2], c)
    scale = h**-2 * (row.factor if grid is None else 1.0)
    out = _KernelSums.apply(
        x.reshape(-1, *x.shape[-2:]),
        y.reshape(-1, *y.shape[-2:]),
        scale.expand(x.shape[:-1]).reshape(-1, x.shape[-2]).contiguous(),
        w.log() if w is not None and row.biased else w,
        row,
        grid,
    )
    shaped = out.reshape(*batch, x.shape[-2], c)
    return shaped if weights is not None and weights.dim() == y.dim() else shaped[..., 0]


def _check(
    x: Any, y: Any, weights: Any, kernel: str, bandwidth: Any, reduce: str, degree: int, offset: float, block: int
) -> None:
    tensors = dict(x=x, y=y) | ({} if weights is None else dict(weights=weights))
    check_tensors(FLOATS, **(tensors | (dict(bandwidth=bandwidth.contiguous()) if isinstance(bandwidth, torch.Tensor) else {})))
    if x.dim() < 2 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (..., n, d) with nothing empty")
    if y.dim() != x.dim() or y.shape[:-2] != x.shape[:-2] or y.shape[-1] != x.shape[-1] or y.numel() == 0:
        expected = (*x.shape[:-2], "m", x.shape[-1])
        raise ValueError(f"y has shape {tuple(y.shape)}: expected ({', '.join(map(str, expected))}), as x, with m not 0")
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r}: expected one of {KERNELS}")
    if reduce not in REDUCES:
        raise ValueError(f"reduce={reduce!r}: expected one of {REDUCES}")
    if reduce in ("logsumexp", "softmax") and kernel == "polynomial":
        raise ValueError(f"reduce={reduce!r} with kernel='polynomial': expected a kernel that is never negative")
    if not isinstance(degree, int) or degree < 1:
        raise ValueError(f"degree={degree!r}: expected a whole number from 1 upwards")
    if not isinstance(offset, (int, float)) or not math.isfinite(offset):
        raise ValueError(f"offset={offset!r}: expected a finite number")
    if not isinstance(block, int) or block < 16 or block & (block - 1):
        raise ValueError(f"block={block}: expected a power of two from 16 upwards")
    _check_bandwidth(bandwidth, x)
    _check_weights(weights, y, reduce)


def _check_bandwidth(bandwidth: Any, x: torch.Tensor) -> None:
    if isinstance(bandwidth, torch.Tensor):
        if bandwidth.dim() and bandwidth.shape != x.shape[:-1]:
            shape = tuple(bandwidth.shape)
            raise ValueError(f"bandwidth has shape {shape}: expected no axes, or {tuple(x.shape[:-1])}, one for each query")
        if not bool((bandwidth > 0).all() & bandwidth.isfinite().all()):
            raise ValueError(f"bandwidth is {float(bandwidth.min()):g} somewhere: expected positive finite numbers")
    elif not isinstance(bandwidth, (int, float)) or not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth={bandwidth!r}: expected a positive finite number")


def _check_weights(weights: torch.Tensor | None, y: torch.Tensor, reduce: str) -> None:
    if weights is None:
        if reduce == "softmax":
            raise ValueError("weights=None with reduce='softmax': expected what is to be averaged, (..., m) or (..., m, c)")
        return
    if reduce == "squares":
        raise ValueError("weights with reduce='squares': expected None, since the squares are summed as they are")
    if weights.shape[: y.dim() - 1] != y.shape[:-1] or weights.dim() > y.dim():
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}: expected {tuple(y.shape[:-1])}, or that and an axis of columns"
        )
    if weights.numel() == 0:
        raise ValueError(f"weights has shape {tuple(weights.shape)}: expected at least one column")
    if reduce == "logsumexp":
        if weights.dim() == y.dim():
            raise ValueError(f"weights has shape {tuple(weights.shape)} with reduce='logsumexp': expected {tuple(y.shape[:-1])}")
        if not bool((weights > 0).all()):
            raise ValueError(f"weights is {float(weights.min()):g} somewhere with reduce='logsumexp': expected positive numbers")


# The registration.


def _case(
    kernel: str,
    reduce: str,
    n: int,
    m: int,
    d: int,
    c: int = 0,
    *,
    batch: tuple[int, ...] = (),
    per_query: bool = False,
    **options: Any,
) -> Case:
    def make(generator, dtype):
        given: Inputs = dict(x=normal(generator, dtype, *batch, n, d), y=normal(generator, dtype, *batch, m, d))
        size = math.sqrt(d) * torch.rand((*batch, n) if per_query else (), generator=generator, dtype=torch.float64)
        given |= dict(kernel=kernel, reduce=reduce, bandwidth=(0.5 * math.sqrt(d) + size).to(dtype)) | options
        if c:
            given["weights"] = normal(generator, dtype, *batch, m, *([c] if c > 1 else []))
            if reduce == "logsumexp":
                given["weights"] = given["weights"].abs() + 0.1
        return given

    shape = f"{kernel}, {reduce}, {n} x {m} in {d}" + (f", {c} columns" if c else "") + (f", batch {batch}" if batch else "")
    # many coordinates or columns go through tl.dot, which is for float32
    dtypes = (torch.float32,) if max(d, c) > DIRECT and kernel != "laplacian" else ()
    return Case(shape, make, ("x", "y", "bandwidth") + ("weights",) * bool(c), dict(block=16), dtypes)


def _far(generator, dtype):
    """Queries so far away that every kernel value underflows, near ones beside them, and one that is a source."""
    y = normal(generator, dtype, 19, 2)
    x = torch.cat([y[:3], y[3:7] + 60, normal(generator, dtype, 2, 2)])
    return dict(x=x, y=y, kernel="gaussian", reduce="logsumexp", bandwidth=1.0)


def _met(generator, dtype):
    """Every query is one of the sources: distances of 0, where the Laplacian has its corner."""
    y = normal(generator, dtype, 18, 3)
    return dict(x=y[:17].clone(), y=y, weights=normal(generator, dtype, 18), kernel="laplacian", bandwidth=0.7)


_CASES = (
    _case("gaussian", "sum", 19, 21, 3, 1),
    _case("laplacian", "softmax", 18, 37, 2, 5, per_query=True),
    _case("polynomial", "sum", 17, 33, 3, 2, batch=(2,)),
    _case("matern32", "logsumexp", 20, 18, 3, 1, batch=(2,), per_query=True),
    _case("cauchy", "squares", 33, 17, 2),
    Case("far away, logsumexp", _far, tuning=dict(block=16)),
    Case("on top of each other", _met, ("x", "y"), dict(block=16)),
    _case("cauchy", "softmax", 18, 40, 1, 1),
    _case("gaussian", "logsumexp", 5, 50, 2),
    _case("polynomial", "squares", 7, 18, 2, offset=0.3, degree=2),
    _case("matern32", "sum", 17, 19, 40, 70, batch=(2,)),
    _case("gaussian", "softmax", 20, 35, 33, 17, per_query=True),
    _case("laplacian", "squares", 18, 19, 17),
    _case("cauchy", "logsumexp", 1, 1, 16, 1),
    _case("polynomial", "sum", 19, 18, 35, 20),
)


def _bench(n: int, d: int, c: int, kernel: str = "gaussian", reduce: str = "sum"):
    def make(generator, dtype, device):
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype).to(device)  # noqa: E731
        weights = {} if reduce == "logsumexp" else dict(weights=draw(n, c))
        return dict(x=draw(n, d), y=draw(n, d), kernel=kernel, reduce=reduce, bandwidth=math.sqrt(d)) | weights

    return make


def _work(inputs: Inputs) -> Work:
    (n, d), m, w = inputs["x"].shape, len(inputs["y"]), inputs.get("weights")
    c = 1 if w is None else w.shape[-1]
    return Work(bytes=4 * (n * d + m * (d + c) + n * c), flops=n * m * (3 * d + 2 * c + 2), special=n * m)


def _chunked_cdist(inputs: Inputs):
    """The usual torch loop over blocks of queries."""
    x, y, h = inputs["x"], inputs["y"], inputs["bandwidth"]

    def sums():
        blocks = []
        for part in x.split(1024):
            logit = torch.cdist(part, y).square_().mul_(-0.5 / h**2)
            if inputs["reduce"] == "logsumexp":
                blocks.append(logit.logsumexp(1))
            else:
                blocks.append((logit.softmax(1) if inputs["reduce"] == "softmax" else logit.exp_()) @ inputs["weights"])
        return torch.cat(blocks)

    return sums


def _keops(inputs: Inputs):
    from pykeops.torch import LazyTensor

    x, y = LazyTensor(inputs["x"][:, None, :].contiguous()), LazyTensor(inputs["y"][None].contiguous())
    logit = ((x - y) ** 2).sum(-1) * (-0.5 / inputs["bandwidth"] ** 2)
    if inputs["reduce"] == "logsumexp":
        return lambda: logit.logsumexp(1).squeeze(-1)
    if inputs["reduce"] == "softmax":
        return lambda: logit.sumsoftmaxweight(LazyTensor(inputs["weights"][None].contiguous()), axis=1)
    return lambda: logit.exp() @ inputs["weights"]


_PEERS: dict[str, Any] = {"KeOps": _keops, "torch, blocks of queries": _chunked_cdist}


def _target(kernel: str, dtype: str = "fp32", *, slope: bool = False, **changes: Any) -> Target:
    signature = {f"{name}_ptr": f"*{dtype}" for name in POINTERS}
    signature |= dict.fromkeys(("rows", "columns", "D", "C", "W"), "i32")
    constants: Inputs = dict(
        OFFSET=1.0, KERNEL=kernel, EXPONENT=1, LOGS=False, ONLINE=False, MEAN=False, SLOPE=slope, QUERIES=True
    )
    constants |= dict(DOT=False, BLOCK=64, BLOCK_W=1) | changes
    return Target(kernel_sums_kernel, signature, constants, HELPERS, warps=8, aligned=("D", "C", "W") if constants["DOT"] else ())


register(
    Kernel(
        name="kernel_sums",
        formula="s_i = sum_j k(x_i, y_j) w_j, and log-sums, means, squares of the same",
        launcher=kernel_sums,
        reference=kernel_sums_reference,
        kernels=(kernel_sums_kernel, *HELPERS),
        cases=_CASES,
        tolerance={torch.float32: 5e-6, torch.float64: 2e-14},
        gradient_tolerance={torch.float32: 2e-5, torch.float64: 1e-13},
        equivalent={
            "kernel_sums_kernel: wrong value beyond the end: right = tl.load(right_ptr + j[:, None] * W + c[None, :], "
            "mask=in_j[:, None] & (c[None, :] < W), other=0.0)": "the weight of a source beyond the end is 0, and 0 times 1 is 0",
        },
        targets=(
            _target("gaussian"),
            _target("gaussian", DOT=True, BLOCK_W=64, LOGS=True, ONLINE=True, MEAN=True),
            _target("matern32", LOGS=True, ONLINE=True),
            _target("laplacian", "fp64"),
            _target("cauchy", slope=True, QUERIES=False, BLOCK_W=4),
            _target("gaussian", slope=True, DOT=True, BLOCK_W=64, LOGS=True),
        ),
        benches=(
            Bench("200,000 x 200,000 in 3", _bench(200_000, 3, 1), torch.float32, _work, _PEERS),
            Bench("50,000 x 50,000 in 64, 64 columns", _bench(50_000, 64, 64), torch.float32, _work, _PEERS),
            Bench(
                "softmax, 50,000 x 50,000 in 64, 64 columns",
                _bench(50_000, 64, 64, reduce="softmax"),
                torch.float32,
                _work,
                _PEERS,
            ),
            Bench("logsumexp, 200,000 x 200,000 in 3", _bench(200_000, 3, 1, reduce="logsumexp"), torch.float32, _work, _PEERS),
            Bench("20,000 x 20,000 in 3", _bench(20_000, 3, 1), torch.float32, _work, _PEERS, devices=("cpu",)),
            Bench("10,000 x 10,000 in 64", _bench(10_000, 64, 1), torch.float32, _work, _PEERS, devices=("cpu",)),
            Bench(
                "logsumexp, 20,000 x 20,000 in 3",
                _bench(20_000, 3, 1, reduce="logsumexp"),
                torch.float32,
                _work,
                _PEERS,
                devices=("cpu",),
            ),
        ),
    )
)
