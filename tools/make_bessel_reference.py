"""Make book/data/bessel/reference.json: log I and log K of the modified Bessel functions at 2,000 points, to 20 digits.

    .venv/bin/python tools/make_bessel_reference.py            # about two minutes
    .venv/bin/python tools/make_bessel_reference.py --check    # only compares the file with its own SHA-256

Both functions are summed here at 60 digits, by ways that the library does not take: I from its power series, from the largest
term outwards; K from the trapezoid rule on its integral, at a step far below the library's. A few of the points are compared
with mpmath's own besseli and besselk, which raise NoConvergence at others.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from mpmath import acosh, asinh, cosh, exp, log, loggamma, mp, mpf, nstr, sqrt

FILE = Path(__file__).resolve().parents[1] / "book" / "data" / "bessel" / "reference.json"
POINTS, AT_ZERO = 2000, 60
BITS = 320


def points() -> list[tuple[float, float]]:
    """A lattice without a seed: nu log-uniform in [1e-2, 1e5] (0 in the first points), x log-uniform in [1e-3, 1e5]."""
    plastic = 1.324717957244746  # the lattice of the root of g^3 = g + 1 leaves no gaps in the plane
    return [
        (
            0.0 if i < AT_ZERO else float(f"{10 ** (-2 + 7 * (i / plastic % 1)):.5g}"),
            float(f"{10 ** (-3 + 8 * (i / plastic**2 % 1)):.5g}"),
        )
        for i in range(POINTS)
    ]


def log_iv(nu: float, x: float) -> mpf:
    """log sum_k (x/2)^(nu + 2k) / (k! Gamma(nu + k + 1)), the terms divided by the largest and held as integers of 2^-BITS."""
    order, q = mpf(nu), mpf(x) ** 2 / 4
    top = max(0, int((sqrt(order**2 + 4 * q) - order) / 2))
    one = 1 << BITS
    half = BITS // 2
    scaled_q, scaled_nu = int(q * (1 << half)), int(order * (1 << half))
    total = one
    term, k = one, top
    while term:
        k += 1
        term = term * scaled_q // (k * (scaled_nu + (k << half)))
        total += term
    term, k = one, top
    while term and k > 0:
        term = term * k * (scaled_nu + (k << half)) // scaled_q
        total += term
        k -= 1
    largest = (order + 2 * top) * log(mpf(x) / 2) - loggamma(mpf(top) + 1) - loggamma(order + top + 1)
    return largest + log(mpf(total)) - BITS * log(mpf(2))


def log_kv(nu: float, x: float) -> mpf:
    """log of the integral over the real line of exp(-x cosh s + nu s) / 2, around its peak, by the trapezoid rule."""
    order, at = mpf(nu), mpf(x)
    peak = asinh(order / at)
    largest = -at * cosh(peak) + order * peak
    low = min(-acosh(1 + 150 / at), peak - 1) - 1
    high = max(acosh(1 + 150 / at), peak) + 6
    # the peak is Gaussian of variance 1 / sqrt(x^2 + nu^2); beside it the strip of analyticity sets the step
    step = min(mpf(1) / 32, mpf(1) / 4 / sqrt(sqrt(at**2 + order**2)))
    total = mpf(0)
    for direction in (1, -1):
        s = peak if direction == 1 else peak - step
        while low <= s <= high:
            term = exp(-at * cosh(s) + order * s - largest)
            if term < mpf(10) ** -58 and abs(s - peak) > step:
                break
            total += term
            s += direction * step
    return largest + log(total * step / 2)


def digest(rows: list[list[str]]) -> str:
    return hashlib.sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest()


def compare() -> None:
    """The sums above against mpmath's own functions, where those answer."""
    for nu, x in [(0.0, 0.5), (0.37, 3.0), (12.5, 20.0), (3.0, 150.0), (200.0, 30.0), (1023.0, 500.0)]:
        for mine, theirs in ((log_iv(nu, x), log(mp.besseli(nu, x))), (log_kv(nu, x), log(mp.besselk(nu, x)))):
            if abs(mine / theirs - 1) > mpf(10) ** -40:
                raise SystemExit(f"nu={nu} x={x}: {nstr(mine, 45)} here, {nstr(theirs, 45)} in mpmath")


def main() -> None:
    mp.dps = 60
    if sys.argv[1:] == ["--check"]:
        record = json.loads(FILE.read_text(encoding="utf-8"))
        if digest(record["rows"]) != record["sha256"]:
            raise SystemExit(f"{FILE.name}: the rows do not have the SHA-256 that stands beside them; run this script again")
        print("as recorded")
        return
    compare()
    rows = [[f"{nu:.5g}", f"{x:.5g}", nstr(log_iv(nu, x), 20), nstr(log_kv(nu, x), 20)] for nu, x in points()]
    head = {"made_by": "tools/make_bessel_reference.py", "columns": ["nu", "x", "log_i", "log_k"], "sha256": digest(rows)}
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    text = json.dumps(head)[:-1] + ', "rows": [\n' + body + "\n]}\n"
    temporary = FILE.with_suffix(".part")
    FILE.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(FILE)
    print(f"{len(rows)} points, {len(text)} bytes, {head['sha256']}")


if __name__ == "__main__":
    main()
