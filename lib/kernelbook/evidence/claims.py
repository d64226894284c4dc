"""Executable claims: a sentence from a paper, the number that decides it, and the verdict of this run."""

from __future__ import annotations

import html
import math
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelbook.evidence.record import Recorded

MIME = "application/vnd.kernelbook.claim+json"
KINDS = {
    "mechanism": "the method does what its derivation says",
    "scaling": "how the effect grows or falls with size",
    "limit": "where it stops working",
    "identity": "two ways to compute one thing agree",
}
HOLDS, FAILS, ABSENT = "holds", "fails", "does not hold here"
NULL, CONTROLLED, OUT_OF_REACH = "no effect here", "holds with a control", "out of reach"
MARKS = {HOLDS: "✓", FAILS: "✗", ABSENT: "○", NULL: "≈", CONTROLLED: "✓", OUT_OF_REACH: "—"}

Interval = tuple[float, float]


class ClaimFailed(AssertionError):
    """A claim that should hold does not, in this run."""


class Claim:
    """What a claim cell returns: a record (the JSON stored in the notebook) that draws itself as a box."""

    def __init__(self, record: dict[str, Any]):
        self.record = record

    def __repr__(self) -> str:
        r = self.record
        shown = "" if r["measured"] is None else f" Measured {measured_text(r)}; bound {bound_text(r)}."
        return f"{MARKS[r['verdict']]} {r['id']} ({r['verdict']}): {r['statement']}{shown}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: self.record, "text/html": _box(self.record), "text/plain": repr(self)}


def number_text(x: float | None) -> str:
    """A number as a reader writes it: three digits, powers of ten raised."""
    if x is None:
        return "not finite"
    text = f"{x:.3g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, power = text.split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}".replace("-", "−")


def bound_text(record: dict[str, Any]) -> str:
    """The bound of a claim's record in words."""
    b = record["bound"]
    if b is None:
        return "none"
    if "within" in b:
        return f"from {number_text(b['within'][0])} to {number_text(b['within'][1])}"
    if "equals" in b:
        return f"{number_text(b['equals'][0])} to within {number_text(b['equals'][1])}"
    (side, value), *_ = b.items()
    return f"{side} {number_text(value)}"


def allowed_range(record: dict[str, Any]) -> Interval:
    """The bound of a claim's record as the range of values that meet it."""
    b = record["bound"]
    if "within" in b:
        return b["within"][0], b["within"][1]
    if "equals" in b:
        return b["equals"][0] - b["equals"][1], b["equals"][0] + b["equals"][1]
    return b.get("above", -math.inf), b.get("below", math.inf)


def measured_text(record: dict[str, Any]) -> str:
    """The measured value of a claim's record, with its interval where there were several seeds."""
    text = number_text(record["measured"])
    if record["interval"]:
        lo, hi = record["interval"]
        text += f" (95 % interval {number_text(lo)} to {number_text(hi)}, {record['n']} seeds)"
    if record["recorded"]:
        text += f" (with {record['recorded']['n']} recorded seeds: mean {number_text(record['recorded']['mean'])})"
    return text


def _box(record: dict[str, Any]) -> str:
    """The claim as HTML that needs no style sheet, for JupyterLab."""
    r, line = record, '<div style="margin:.15em 0">{}</div>'
    color = {FAILS: "#b3261e", ABSENT: "#6b6f76", NULL: "#6b6f76", OUT_OF_REACH: "#6b6f76"}.get(r["verdict"], "#1d6b45")
    rows = [f"<b>{MARKS[r['verdict']]} {html.escape(r['verdict'])}</b> · <code>{html.escape(r['id'])}</code> · {r['kind']}"]
    rows += [html.escape(r["statement"])]
    if r["measured"] is not None:
        rows += [f"measured <b>{html.escape(measured_text(r))}</b>, bound {html.escape(bound_text(r))}"]
    rows += [f"<i>reported</i>: {html.escape(r['reported'])}"] if r["reported"] else []
    rows += [f"<i>why</i>: {html.escape(r['because'])}"] if r["because"] else []
    return f'<div style="border-left:4px solid {color};padding:.3em .8em">{"".join(line.format(x) for x in rows)}</div>'


def _bound(below: Any, above: Any, within: Any, equals: Any) -> tuple[dict[str, Any], Interval]:
    """The bound as stored and as an interval of allowed values."""
    given = {k: v for k, v in dict(below=below, above=above, within=within, equals=equals).items() if v is not None}
    if len(given) != 1:
        raise ValueError(f"bounds given: {', '.join(given) or 'none'}; expected just one of below, above, within, equals")
    (side, value), *_ = given.items()
    pair = side in ("within", "equals")
    if pair != isinstance(value, (tuple, list)) or (pair and len(value) != 2):
        raise ValueError(f"{side}={value!r}: expected {'a pair of numbers' if pair else 'a number'}")
    numbers = [float(v) for v in value] if pair else [float(value)]
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{side}={value!r}: expected finite numbers")
    bound = {side: numbers if pair else numbers[0]}
    allowed = allowed_range({"bound": bound})
    if allowed[0] >= allowed[1]:
        raise ValueError(f"{side}={value!r}: no value lies inside; expected lo < hi, or a tolerance above 0")
    return bound, allowed


def _numbers(measured: Any, name: str) -> list[float] | float:
    """A float, or one float per seed, out of Python numbers, NumPy arrays and torch tensors."""
    plain = measured.tolist() if hasattr(measured, "tolist") else measured
    if isinstance(plain, (list, tuple)):
        if len(plain) < 2 or any(isinstance(v, (list, tuple)) for v in plain):
            raise ValueError(f"{name} has {len(plain)} entries: expected one number, or one number for each of several seeds")
        return [float(v) for v in plain]
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise ValueError(f"{name}={plain!r}: expected a number (a truth value can't be near its bound)")
    return float(plain)


def _strictly_inside(lo: float, hi: float, allowed: Interval) -> bool:
    return allowed[0] < lo and hi < allowed[1]


def _decide(measured: Any, allowed: Interval) -> dict[str, Any]:
    """Value, interval, the statistic nearest to the bound, and whether the bound is met."""
    if hasattr(measured, "against"):
        return measured.against(allowed)
    values = _numbers(measured, "measured")
    if isinstance(values, float):
        lo = hi = mean = values
        spread = None
    else:
        from kernelbook.evidence.stats import mean_interval

        if not all(math.isfinite(v) for v in values):
            raise ClaimFailed(f"a seed measured {next(v for v in values if not math.isfinite(v))}: expected finite numbers")
        mean = sum(values) / len(values)
        lo, hi = spread = mean_interval(values)
    nearest = hi if hi - allowed[1] > allowed[0] - lo else lo
    return dict(
        measured=mean if math.isfinite(mean) else None,
        interval=list(spread) if spread else None,
        per_seed=values if isinstance(values, list) else None,
        n=len(values) if isinstance(values, list) else 1,
        decides=nearest if math.isfinite(nearest) else None,
        recorded=None,
        met=_strictly_inside(lo, hi, allowed),
    )


_UNMEASURED = dict(measured=None, interval=None, per_seed=None, n=0, decides=None, recorded=None, met=None)


def _sentence(value: str, name: str) -> str:
    if not isinstance(value, str) or len(value.split()) < 3:
        raise ValueError(f"{name}={value!r}: expected a sentence")
    return value


def _finish(id: str, statement: str, kind: str, verdict: str, bound: Any, decision: dict[str, Any], **words: str) -> Claim:
    if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", id):
        raise ValueError(f"id={id!r}: expected paper-key/short-name in lower case, such as 'ntk/constant-kernel'")
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
    from kernelbook.evidence import run

    paper, name = id.split("/")
    text = dict(reported=words.get("reported", ""), because=words.get("because", ""))
    record: dict[str, Any] = dict(
        id=id, paper=paper, name=name, statement=_sentence(statement, "statement"), kind=kind, verdict=verdict
    )
    record |= dict(bound=bound, **decision, **text, seed=run.seed, scale=run.scale, device=run.device.type)
    made = Claim(record)
    if verdict == FAILS and os.environ.get("KERNELBOOK_SURVEY") != "1":
        found = f"measured {measured_text(record)}, bound {bound_text(record)}, seed {run.seed}"
        raise ClaimFailed(f"claim {id} does not hold: {statement} ({found})")
    return made


class _Claims:
    """`claim(...)` and the verdicts other than "holds"."""

    def __call__(
        self,
        id: str,
        statement: str,
        *,
        measured: float | Any | Recorded,
        below: float | None = None,
        above: float | None = None,
        within: Interval | None = None,
        equals: Interval | None = None,
        kind: str,
        reported: str = "",
        holds: bool = True,
        because: str = "",
    ) -> Claim:
        """A claim decided by a measurement.

        measured: a number; one number per seed, which must meet the bound in the mean and at the end of its 95 % interval;
        or a `Recorded`.  Just one of below=, above=, within=(lo, hi), equals=(x, tolerance) is the bound.
        kind: mechanism, scaling, limit or identity.  reported: the paper's own figure, in our words.
        holds=False with because=: tried honestly, and does not show at this scale.
        Raises ClaimFailed if the claim should hold and does not; ValueError on malformed arguments.
        """
        bound, allowed = _bound(below, above, within, equals)
        decision = _decide(measured, allowed)
        if not holds:
            _sentence(because, "because")
        elif because:
            raise ValueError(f"because={because!r}: expected only with holds=False")
        verdict = ABSENT if not holds else HOLDS if decision["met"] else FAILS
        return _finish(id, statement, kind, verdict, bound, decision, reported=reported, because=because)

    def null(
        self, id: str, statement: str, *, measured: Any, within: Interval, kind: str, because: str, reported: str = ""
    ) -> Claim:
        """A claimed effect that is measured to be too small to matter: the interval of `measured` lies inside `within`.

        measured: one difference per seed, or a `Recorded`.  Arguments and errors otherwise as for a claim.
        """
        bound, allowed = _bound(None, None, within, None)
        if not allowed[0] <= 0 <= allowed[1]:
            raise ValueError(f"within={within!r}: expected a range of differences around 0")
        decision = _decide(measured, allowed)
        _sentence(because, "because")
        verdict = NULL if decision["met"] else FAILS
        return _finish(id, statement, kind, verdict, bound, decision, reported=reported, because=because)

    def controlled(
        self,
        id: str,
        statement: str,
        *,
        measured: Any,
        control: Any,
        below: float | None = None,
        above: float | None = None,
        kind: str,
        because: str,
        reported: str = "",
    ) -> Claim:
        """A claim that shows only against a control: decided on measured - control, seed by seed.

        measured, control: one number per seed each.  because: what the control takes out.
        """
        a, b = _numbers(measured, "measured"), _numbers(control, "control")
        if not (isinstance(a, list) and isinstance(b, list) and len(a) == len(b)):
            raise ValueError(f"measured and control are {measured!r} and {control!r}: expected one number per seed in each")
        bound, allowed = _bound(below, above, None, None)
        decision = _decide([x - y for x, y in zip(a, b, strict=True)], allowed)
        _sentence(because, "because")
        verdict = CONTROLLED if decision["met"] else FAILS
        return _finish(id, statement, kind, verdict, bound, decision, reported=reported, because=because)

    def out_of_reach(self, id: str, statement: str, *, reported: str, because: str, kind: str = "scaling") -> Claim:
        """A headline that this book does not measure: reported= what the paper measured, because= what it would take."""
        _sentence(reported, "reported")
        _sentence(because, "because")
        return _finish(id, statement, kind, OUT_OF_REACH, None, dict(_UNMEASURED), reported=reported, because=because)


claim = _Claims()
out_of_reach = claim.out_of_reach
