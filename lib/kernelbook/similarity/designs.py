"""Where to evaluate a function: rank-1 lattices, scrambled digital nets, and points that repel each other in feature space."""

import torch

# Cools, Kuo and Nuyens (2006), "Constructing embedded lattice rules for multivariate integration", rule exod2_base2_m20
# fmt: off
LATTICE_VECTOR = (
    1, 182667, 469891, 498753, 110745, 446247, 250185, 118627, 245333, 283199,
    408519, 391023, 246327, 126539, 399185, 461527, 300343, 69681, 516695, 436179,
)
# fmt: on
# Joe and Kuo (2008), "Constructing Sobol sequences with better two-dimensional projections", file new-joe-kuo-6.21201:
# for the coordinates from the second on, the inner coefficients of the primitive polynomial and the first numbers m_k
SOBOL_NUMBERS: tuple[tuple[int, tuple[int, ...]], ...] = (
    (0, (1,)),
    (1, (1, 3)),
    (1, (1, 3, 1)),
    (2, (1, 1, 1)),
    (1, (1, 1, 3, 3)),
    (4, (1, 3, 5, 13)),
    (2, (1, 1, 5, 5, 17)),
    (4, (1, 1, 5, 5, 5)),
    (7, (1, 1, 7, 11, 19)),
    (11, (1, 1, 5, 1, 1)),
    (13, (1, 1, 1, 3, 11)),
    (14, (1, 3, 5, 5, 31)),
    (1, (1, 3, 3, 9, 7, 49)),
    (13, (1, 1, 1, 15, 21, 21)),
    (16, (1, 3, 1, 13, 27, 49)),
    (19, (1, 1, 1, 15, 7, 5)),
    (22, (1, 3, 1, 15, 13, 25)),
    (25, (1, 1, 5, 5, 19, 61)),
    (1, (1, 3, 7, 11, 23, 15, 103)),
)
LONGEST = 1 << 20  # points: as far as the generating vector was searched
BITS = 52  # binary digits of a coordinate of a net, all of which a float64 holds
SCRAMBLES = ("shift", "matrix", "nested")


def lattice(
    n: int, d: int, generator: torch.Generator | None = None, *, vector: tuple[int, ...] = LATTICE_VECTOR
) -> torch.Tensor:
    """Rank-1 lattice x_i = (v(i) vector + shift) mod 1, with v(i) the bits of i mirrored at the binary point.

    n: a power of two up to 2^20.  d: coordinates, as many as `vector` has at most.
    generator: draws the one shift of all points; without it the lattice contains the origin.
    Returns (n, d) float64 in [0, 1).  The first n points of a longer lattice with the same shift are this lattice.
    Raises ValueError for a number of points or coordinates that cannot be had, and for an even entry of `vector`.
    Source: Cools, Kuo and Nuyens (2006); the vector is theirs, its first 20 coordinates.
    """
    _check(n, d, len(vector))
    if not all(isinstance(z, int) and z % 2 for z in vector):
        raise ValueError(f"vector={vector!r}: expected odd whole numbers, or coordinates of different points coincide")
    # v(i) by doubling: the new half lies 1 / (2 old length) further
    v = torch.zeros(1, dtype=torch.float64)
    while len(v) < n:
        v = torch.cat([v, v + 0.5 / len(v)])
    # the product is exact, so only the shift is rounded
    points = v[:, None] * torch.tensor(vector[:d], dtype=torch.float64) % 1
    if generator is not None:
        shift = torch.rand(d, generator=generator, dtype=torch.float64, device=generator.device)
        points = (points + shift.to("cpu")) % 1
    return points


def digital_net(
    n: int, d: int, generator: torch.Generator | None = None, *, scramble: str = "matrix", interlace: int = 1
) -> torch.Tensor:
    """Sobol' points in natural order: the digits of x_i are the exclusive or of the generating columns at the bits of i.

    n: a power of two up to 2^20.  d: coordinates, up to 20 / interlace.
    generator: draws the scrambling; without it the net is the plain one, which contains the origin.
    scramble: "shift" (one random digital shift), "matrix" (the columns times random lower triangular matrices with unit
    diagonal, then a digital shift) or "nested" (Owen: every digit is flipped by a coin of its own for each prefix).
    interlace: the order of a higher-order net: digits of that many coordinates alternate in one, after the scrambling.
    Returns (n, d) float64 in [0, 1) with 52 binary digits, so that x * 2**52 is a whole number.
    With "shift" and "matrix" the first n points of a longer net with the same generator state are this net.
    Raises ValueError for a number of points, coordinates or digits that cannot be had, and for another scrambling.
    Source: Joe and Kuo (2008); Owen (1995) and Matousek (1998) for the scramblings; Dick (2011) for interlacing.
    """
    if not isinstance(interlace, int) or not 1 <= interlace <= 4:
        raise ValueError(f"interlace={interlace!r}: expected a whole number from 1 to 4")
    if scramble not in SCRAMBLES:
        raise ValueError(f"scramble={scramble!r}: expected one of {', '.join(SCRAMBLES)}")
    _check(n, d, (len(SOBOL_NUMBERS) + 1) // interlace)
    columns = _sobol_columns(d * interlace)
    if generator is not None and scramble == "matrix":
        columns = _scrambled_columns(columns, generator)
    points = torch.zeros(1, d * interlace, dtype=torch.int64)
    for column in columns[: n.bit_length() - 1]:
        points = torch.cat([points, points ^ column])
    if generator is not None and scramble == "nested":
        points = _nested(points, generator)
    elif generator is not None:
        points = points ^ _whole(1 << BITS, (d * interlace,), generator)
    return _interlaced(points, interlace).double() * 2.0**-BITS


def sample_projection_dpp(Q: torch.Tensor, generator: torch.Generator, *, draws: int | None = None) -> torch.Tensor:
    """Rows drawn from the projection determinantal process of Q: P(S) = det(Q_S)^2 for every set S of m rows.

    Q: (N, m) float32 or float64 on the CPU, with orthonormal columns.  draws: how many independent sets; None for one.
    Returns the rows' numbers in the order drawn, int64: (m,), or (draws, m).  A row is drawn with probability |Q_i|^2.
    Memory: a few times 2^20 numbers; time: O(N m (m + draws)).
    Raises ValueError if Q is not such a matrix, draws is not a whole number from 1, or the generator is not on the CPU.
    Source: Hough, Krishnapur, Peres and Virag (2006), algorithm 18; the residual is projected twice against rounding.
    """
    if not isinstance(Q, torch.Tensor) or Q.dim() != 2 or Q.dtype not in (torch.float32, torch.float64) or Q.is_cuda:
        got = f"{Q.dtype} of shape {tuple(Q.shape)} on {Q.device}" if isinstance(Q, torch.Tensor) else type(Q).__name__
        raise ValueError(f"Q is {got}: expected a float32 or float64 matrix on the CPU, rows to choose from by features")
    if draws is not None and (not isinstance(draws, int) or draws < 1):
        raise ValueError(f"draws={draws!r}: expected None or a whole number from 1 upwards")
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise ValueError(f"generator={generator!r}: expected a torch.Generator on the CPU")
    N, m = Q.shape
    off = float((Q.mT @ Q - torch.eye(m, dtype=Q.dtype)).abs().max()) if 0 < m <= N else torch.inf
    if not off < 1e3 * torch.finfo(Q.dtype).eps ** 0.75:
        raise ValueError(f"Q of shape {N, m} has columns {off:.1e} from orthonormal: expected those of a QR decomposition")
    share = max(1, (1 << 20) // N)
    total = draws or 1
    sets = torch.cat([_projection_dpp(Q, generator, min(share, total - k)) for k in range(0, total, share)])
    return sets[0] if draws is None else sets


def _projection_dpp(Q: torch.Tensor, generator: torch.Generator, draws: int) -> torch.Tensor:
    N, m = Q.shape
    chosen = torch.empty(draws, m, dtype=torch.int64)
    V = Q.new_zeros(draws, m, m)  # orthonormal bases of the features chosen so far, as rows
    left = Q.square().sum(1).expand(draws, N).contiguous()  # squared distances of all rows from their spans
    for j in range(m):
        ladder = left.cumsum(1)
        u = torch.rand(draws, 1, generator=generator, dtype=Q.dtype) * ladder[:, -1:]
        row = torch.searchsorted(ladder, u, right=True).clamp_max(N - 1)
        v = Q[row[:, 0]][:, None]
        for _ in range(2):
            v = v - v @ V[:, :j].mT @ V[:, :j]
        V[:, j] = torch.nn.functional.normalize(v[:, 0], dim=1)
        left = (left - (V[:, j] @ Q.mT).square()).clamp_min_(0).scatter_(1, row, 0)
        chosen[:, j] = row[:, 0]
    return chosen


def _check(n: int, d: int, most: int) -> None:
    if not isinstance(n, int) or not 1 <= n <= LONGEST or n & (n - 1):
        raise ValueError(f"n={n!r}: expected a power of two from 1 to 2^20")
    if not isinstance(d, int) or not 1 <= d <= most:
        raise ValueError(f"d={d!r}: expected a whole number from 1 to {most}")


def _whole(high: int, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(high, shape, generator=generator, device=generator.device).to("cpu")


def _sobol_columns(d: int) -> torch.Tensor:
    """The generating columns (20, d) as whole numbers whose bit BITS - 1 is the first digit."""
    most = LONGEST.bit_length() - 1
    numbers = [[1] * most]
    for inner, first in SOBOL_NUMBERS[: d - 1]:
        m, s = list(first), len(first)
        for k in range(s, most):
            new = m[k - s] ^ (m[k - s] << s)
            for i in range(1, s):
                new ^= (inner >> (s - 1 - i) & 1) * m[k - i] << i
            m.append(new)
        numbers.append(m)
    return torch.tensor([[m[k] << (BITS - 1 - k) for m in numbers] for k in range(most)])


def _scrambled_columns(columns: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """L_j C_j for a random lower triangular L_j with unit diagonal, one for each coordinate."""
    place = BITS - 1 - torch.arange(BITS)
    L = _whole(2, (columns.shape[1], BITS, BITS), generator).tril(-1) + torch.eye(BITS, dtype=torch.int64)
    digits = columns.T[:, None] >> place[:, None] & 1  # (d, BITS, columns)
    return ((L @ digits % 2) << place[:, None]).sum(1).T


def _nested(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Owen's scrambling of points of which no two agree in the first log2(n) digits of any coordinate."""
    n, d = points.shape
    depth, scrambled = n.bit_length() - 1, points
    for level in range(depth):
        coin = _whole(2, (1 << level, d), generator)
        scrambled = scrambled ^ coin.gather(0, points >> (BITS - level)) << (BITS - 1 - level)
    # deeper down every point is alone in its branch of the tree
    return scrambled ^ _whole(1 << (BITS - depth), (n, d), generator)


def _interlaced(points: torch.Tensor, order: int) -> torch.Tensor:
    """Digit r of the a-th of `order` coordinates becomes digit r order + a of one."""
    if order == 1:
        return points
    groups = points.view(len(points), -1, order)
    mixed = torch.zeros_like(groups[..., 0])
    for digit in range(BITS):
        bit = groups[..., digit % order] >> (BITS - 1 - digit // order) & 1
        mixed |= bit << (BITS - 1 - digit)
    return mixed
