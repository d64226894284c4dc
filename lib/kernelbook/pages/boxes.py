"""How claims, timings and listings are drawn on the page: MyST-NB renderers for our own MIME types."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import Any

from docutils import nodes

from kernelbook.evidence import claims, counting
from kernelbook.pages import listing

STATES = {
    claims.HOLDS: "holds",
    claims.CONTROLLED: "holds",
    claims.FAILS: "fails",
    claims.ABSENT: "absent",
    claims.NULL: "absent",
    claims.OUT_OF_REACH: "reach",
}


def _content(data: Any, mime: str, inline: bool) -> dict[str, Any] | None:
    if data.mime_type != mime or inline:
        return None
    return dict(data.content if isinstance(data.content, dict) else json.loads(data.content))


def _line(*parts: nodes.Node | str, classes: str = "") -> nodes.paragraph:
    paragraph = nodes.paragraph(classes=[classes] if classes else [])
    for part in parts:
        paragraph += nodes.Text(part) if isinstance(part, str) else part
    return paragraph


def _with_math(text: str) -> list[nodes.Node]:
    """Text with `$...$` in it as docutils nodes."""
    pieces = text.split("$")
    return [nodes.math(p, p) if i % 2 else nodes.Text(p) for i, p in enumerate(pieces) if p]


def html_with_math(text: str) -> str:
    """Text with `$...$` in it as HTML that MathJax reads."""
    pieces = text.split("$")
    marked = [
        f'<span class="math notranslate nohighlight">\\({html.escape(p)}\\)</span>' if i % 2 else html.escape(p)
        for i, p in enumerate(pieces)
    ]
    return "".join(marked)


def scale_picture(record: dict[str, Any]) -> str:
    """A number line as SVG: the allowed range shaded, the measured value as a dot with its interval.

    An identity gets none: its error is so far below the tolerance that a line would show nothing.
    """
    if record["measured"] is None or record["kind"] == "identity":
        return ""
    low, high = claims.allowed_range(record)
    span = record["interval"] or [record["measured"]] * 2
    marks = [x for x in (low, high, *span, record["measured"]) if math.isfinite(x)]
    logarithmic = min(marks) > 0 and max(marks) / min(marks) > 20
    place = math.log if logarithmic else float
    first, last = place(min(marks)), place(max(marks))
    pad = 0.35 * (last - first or abs(first) or 1.0)

    def x(value: float) -> float:
        if not math.isfinite(value):
            return 0.0 if value < 0 else 240.0
        return 240 * (place(value) - first + pad) / (last - first + 2 * pad)

    shade = f'<rect class="allowed" x="{x(low):.1f}" y="5" width="{x(high) - x(low):.1f}" height="12"/>'
    ticks = "".join(
        f'<line class="bound" x1="{x(e):.1f}" x2="{x(e):.1f}" y1="2" y2="20"/>' for e in (low, high) if math.isfinite(e)
    )
    bar = f'<line class="interval" x1="{x(span[0]):.1f}" x2="{x(span[1]):.1f}" y1="11" y2="11"/>'
    dot = f'<circle class="value" cx="{x(record["measured"]):.1f}" cy="11" r="4"/>'
    label = f"measured {claims.measured_text(record)}, bound {claims.bound_text(record)}"
    return (
        f'<svg class="kb-scale" viewBox="0 0 240 22" role="img" aria-label="{html.escape(label)}">{shade}{ticks}{bar}{dot}</svg>'
    )


def claim_box(record: dict[str, Any]) -> nodes.container:
    """A claim as docutils nodes with the anchor `claim-PAPER-NAME`."""
    r = record
    box = nodes.container(classes=["kb-claim", STATES[r["verdict"]]], ids=[anchor(r["id"])])
    box += _line(
        nodes.inline(text=f"{claims.MARKS[r['verdict']]} {r['verdict']}", classes=["kb-verdict"]),
        nodes.inline(text=r["kind"], classes=["kb-kind"]),
        nodes.literal(text=r["id"], classes=["kb-id"]),
        classes="kb-claim-head",
    )
    box += _line(*_with_math(r["statement"]), classes="kb-statement")
    if r["measured"] is not None:
        words = ["Measured ", nodes.strong(text=claims.measured_text(r)), f"; bound: {claims.bound_text(r)}."]
        box += _line(*words, classes="kb-measured")
        box += nodes.raw("", scale_picture(r), format="html")
    for key, label in (("reported", "The paper reports: "), ("because", "Why: ")):
        if r[key]:
            box += _line(nodes.emphasis(text=label), *_with_math(r[key]), classes="kb-words")
    return box


def anchor(claim_id: str) -> str:
    """The HTML id of a claim's box."""
    return "claim-" + claim_id.replace("/", "-")


class ClaimRenderer:
    """A claim cell's output as a box."""

    mime_priority_overrides = (("*", claims.MIME, 1),)

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        record = _content(data, claims.MIME, inline)
        return None if record is None else [claim_box(record)]


class TimingRenderer:
    """A timing cell's output as a box."""

    mime_priority_overrides = (("*", counting.MIME, 1),)

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        record = _content(data, counting.MIME, inline)
        if record is None:
            return None
        box = nodes.container(classes=["kb-timing"])
        box += _line(nodes.inline(text="timing, decides nothing", classes=["kb-kind"]), classes="kb-claim-head")
        box += _line(counting.timing_text(record) + ".")
        return [box]


class ListingRenderer:
    """A listing cell's output as highlighted source, read when the page is built, so that page and package agree."""

    mime_priority_overrides = (("*", listing.MIME, 1),)

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        record = _content(data, listing.MIME, inline)
        if record is None:
            return None
        from kernelbook.evidence import house

        file = Path(house.PACKAGE.parent, *record["module"].split(".")).with_suffix(".py")
        renderer.renderer.document.settings.env.note_dependency(str(file))
        code = listing.source(file, record["name"])
        box = nodes.container(classes=["kb-listing"])
        box += _line(nodes.literal(text=f"{record['module']}.{record['name']}"), classes="kb-listing-head")
        box += nodes.literal_block(code, code, language="python")
        return [box]
