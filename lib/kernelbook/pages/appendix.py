"""Pages that the build writes: map of chapters, index of papers, what held, run times, library reference."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from kernelbook.evidence import claims, execution, house, ledger
from kernelbook.gpu import benchmark, cards, registry
from kernelbook.pages import boxes

BUDGET_S, BOOK_BUDGET_MIN = 45, 35
REASONED = {
    claims.ABSENT: "Tried, and did not show at this scale",
    claims.NULL: "Measured, and too small to matter",
    claims.CONTROLLED: "Holds, but only against a control",
    claims.OUT_OF_REACH: "Out of reach here",
}


class _Gathering(SphinxDirective):
    """A directive whose page is read again at every build."""

    def link(self, chapter: str, anchor: str = "", text: str = "") -> str:
        """HTML that leads to a chapter, or its title where it is not written yet."""
        title = html.escape(text or titles()[chapter])
        if f"book/{chapter}" not in self.env.found_docs:
            return f'<span class="kb-unwritten">{title}</span>'
        to = self.env.app.builder.get_relative_uri(self.env.docname, f"book/{chapter}")
        return f'<a href="{to}{anchor}">{title}</a>'

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["kernelbook_gathers"] = type(self).__name__
        return [nodes.raw("", self.content_html(), format="html")]

    def content_html(self) -> str:
        raise NotImplementedError


def titles() -> dict[str, str]:
    """Chapter titles by name, in the book's order."""
    return {c["name"]: c["title"] for part in ledger.outline() for c in part["chapters"]}


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], classes: str = "") -> str:
    cells = "".join(f'<th scope="col">{h}</th>' for h in head)
    labels = [html.escape(h.lower()) for h in head]
    body = "".join(
        "<tr>" + "".join(f'<td data-label="{k}">{v}</td>' for k, v in zip(labels, r, strict=True)) + "</tr>" for r in rows
    )
    return f'<table class="kb-table {classes}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'


class ChapterMap(_Gathering):
    """{chapter-map}: all parts and chapters in reading order, with what each needs."""

    def content_html(self) -> str:
        parts = []
        for part in ledger.outline():
            items = "".join(f"<li>{self.entry(c['name'])}</li>" for c in part["chapters"])
            parts.append(
                f'<section class="kb-part kb-{part["meaning"]}"><h3>{html.escape(part["title"])}</h3><ol>{items}</ol></section>'
            )
        return f'<div class="kb-map">{"".join(parts)}</div>'

    def entry(self, name: str) -> str:
        path = house.book() / f"{name}.md"
        if not path.exists():
            return self.link(name)
        needs = execution.read(path).front.get("needs") or []
        return self.link(name) + (
            f"<small>needs {', '.join(map(self.link, needs))}</small>" if needs else "<small>needs nothing</small>"
        )


class PaperIndex(_Gathering):
    """{paper-index}: every paper by first author, with its page, its arXiv entry and its code."""

    def content_html(self) -> str:
        papers = sorted(ledger.papers(), key=lambda p: (p["authors"][0].split()[-1].lower(), p["year"], p["title"]))
        return _table(("Paper", "Venue", "Chapter"), [self.row(p) for p in papers])

    def row(self, p: dict[str, Any]) -> tuple[str, ...]:
        name = html.escape(p["title"])
        linked = f'<a href="https://arxiv.org/abs/{p["arxiv"]}">{name}</a>' if p["arxiv"] else name
        code = f' · <a href="{html.escape(p["code"])}">code</a>' if p["code"] else ""
        authors = ", ".join(p["authors"])
        return f"{html.escape(authors)}<br>{linked}{code}", html.escape(p["venue"]), self.link(p["chapter"])


class Verdicts(_Gathering):
    """{verdicts}: what held and what did not, with the reasons, from the ledger of this build."""

    def content_html(self) -> str:
        rows = ledger.build()["claims"]
        held = sum(c["verdict"] == claims.HOLDS for c in rows)
        parts = [f"<p>Of {len(rows)} claims in this build, {held} hold as their papers say.</p>"]
        for verdict, heading in REASONED.items():
            own = [c for c in rows if c["verdict"] == verdict]
            items = "".join(f"<li>{self.entry(c)}</li>" for c in own) or "<li>none in this build</li>"
            parts.append(f"<h3>{heading}</h3><ul>{items}</ul>")
        return "".join(parts)

    def entry(self, c: dict[str, Any]) -> str:
        measured = "" if c["measured"] is None else f" Measured {claims.measured_text(c)}; bound {claims.bound_text(c)}."
        said = f" The paper reports: {c['reported']}" if c["reported"] else ""
        where = self.link(c["chapter"], f"#{boxes.anchor(c['id'])}")
        text = boxes.html_with_math(c["statement"]) + html.escape(measured) + boxes.html_with_math(said)
        return f"{text} <em>{boxes.html_with_math(c['because'])}</em> ({where})"


class RunTimes(_Gathering):
    """{run-times}: what each chapter of this build took, against its budget."""

    def content_html(self) -> str:
        settings = execution.settings_from_environment()
        paths = [p for p in execution.notebooks() if p.parent.name != "solutions"]
        stamps = [(execution.read(p), execution.stamp_of(p, settings) or {}) for p in paths]
        rows = [self.row(c, s) for c, s in stamps if s]
        total = sum(s["core_seconds"] for _, s in stamps if s)
        said = (
            f"{total:.0f} core-seconds for {len(rows)} chapters; the whole book may take {BOOK_BUDGET_MIN} minutes on two cores."
        )
        return _table(("Chapter", "Core-seconds", "Budget", "Run on", "Torch"), rows) + f"<p>{said}</p>"

    def row(self, chapter: execution.Chapter, s: dict[str, Any]) -> tuple[str, ...]:
        budget = chapter.front.get("budget", BUDGET_S)
        machine = f"{s['machine']}, {s['device']}, Python {s['python']}"
        return (
            self.link(chapter.name),
            f"{s['core_seconds']:.0f}",
            f"{budget}",
            html.escape(machine),
            s["packages"].get("torch", ""),
        )


class GpuCards(_Gathering):
    """{gpu-cards}: what machines can do at best, and where each number comes from."""

    def content_html(self) -> str:
        self.env.note_dependency(str(house.PACKAGE / "gpu" / "cards.py"))
        units = ("fp64", "fp32", "tf32", "bf16", "int8")
        head = ("Machine", "Main memory", "Bandwidth", *units, "Ridge, fp32")
        rows = [self.row(c, units) for c in cards.CARDS.values()]
        sources = "".join(f"<li>{html.escape(c.name)}: {html.escape('; '.join(c.sources))}.</li>" for c in cards.CARDS.values())
        return _table(head, rows) + f"<p>Sources:</p><ul>{sources}</ul>"

    def row(self, card: cards.Card, units: tuple[str, ...]) -> tuple[str, ...]:
        memory = card.levels[-1]
        rates = [_three_digits(card.rates[u] / 1e12) if u in card.rates else "" for u in units]
        large = card.bandwidth >= 1e12
        bandwidth = f"{card.bandwidth / 1e12:.3g} TB/s" if large else f"{card.bandwidth / 1e9:.3g} GB/s"
        named = f"{memory.size / 1e9:.0f} GB {html.escape(memory.name)}"
        return (html.escape(card.name), named, bandwidth, *rates, f"{card.ridge('fp32'):.0f} flops per byte")


def _three_digits(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


class GpuKernels(_Gathering):
    """{gpu-kernels}: every kernel of the room, and what was measured of it on which machine."""

    def content_html(self) -> str:
        for file in (*(house.PACKAGE / "gpu").glob("*.py"), *benchmark.folder().glob("*.json")):
            self.env.note_dependency(str(file))
        made = benchmark.records()
        gpu = [(r, record) for record in made if record["kind"] == "cuda" for r in record["rows"]]
        cpu = [(r, record) for record in made if record["kind"] == "cpu" for r in record["rows"]]
        head = ("Kernel", "Computes", "On a GPU")
        rows: list[tuple[str, ...]] = [
            (f"<code>{k.name}</code>", html.escape(k.formula), self.measured(k.name, gpu)) for k in registry.load().values()
        ]
        paths: list[tuple[str, ...]] = [
            (f"<code>{r['kernel']}</code>", html.escape(r["input"]), self.words(r, record)) for r, record in cpu
        ]
        reference = "<p>The reference paths, which readers without a GPU run, on a processor:</p>"
        return _table(head, rows) + (reference + _table(("Path", "Input", "Measured"), paths) if paths else "")

    def measured(self, name: str, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
        own = [f"{html.escape(r['input'])}: {self.words(r, record)}" for r, record in rows if r["kernel"] == name]
        return "<br>".join(own) or "not measured"

    def words(self, row: dict[str, Any], record: dict[str, Any]) -> str:
        peers = "; ".join(
            f"{p['ratio']:.2g}× as fast as {n}" if "ratio" in p else f"{n}: {p['skipped']}" for n, p in row["peers"].items()
        )
        roof = f"{row['roofline']:.0%} of the {row['bound']} bound; " if "roofline" in row else ""
        old = {"current": "", "changed since": ", the kernel has changed since", "gone": ", the kernel is gone"}[
            benchmark.state(row)
        ]
        return html.escape(f"{roof}{peers} ({record['device']}, {record['date']}{old})")


# ---------------------------------------------------------------- library reference


def public(path: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    """The public functions and classes that a module defines."""
    body = ast.parse(path.read_text("utf8")).body
    return [n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith(("_", "pytest_"))]


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A function's name and arguments without annotations, or a class's name."""
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    arguments = ast.unparse(_plain(node.args))
    return f"{node.name}({arguments})"


def _plain(arguments: ast.arguments) -> ast.arguments:
    for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if a is not None:
            a.annotation = None
    return arguments


class LibraryReference(_Gathering):
    """{library-reference}: public names of a room with signature and docstring, read from the source."""

    required_arguments = 1

    def content_html(self) -> str:
        room = self.arguments[0]
        files = sorted((house.PACKAGE / room).glob("*.py"))
        for file in files:
            self.env.note_dependency(str(file))
        return "".join(self.module(f, room) for f in files if f.name != "__init__.py" and public(f))

    def module(self, file: Path, room: str) -> str:
        about = ast.get_docstring(ast.parse(file.read_text("utf8"))) or ""
        names = "".join(self.described(n) for n in public(file))
        return f"<h3><code>{room}.{file.stem}</code></h3><p>{html.escape(about)}</p><dl class='kb-library'>{names}</dl>"

    def described(self, node: ast.FunctionDef | ast.ClassDef) -> str:
        text = html.escape(ast.get_docstring(node) or "").replace("\n\n", "<br>").replace("\n", " ")
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
        return f"<dt><code>{html.escape(signature(node))}</code></dt><dd>{text}</dd>"


def setup(app: Any) -> None:
    """Register the directives."""
    for name, directive in (
        ("chapter-map", ChapterMap),
        ("paper-index", PaperIndex),
        ("verdicts", Verdicts),
        ("run-times", RunTimes),
        ("library-reference", LibraryReference),
        ("gpu-cards", GpuCards),
        ("gpu-kernels", GpuKernels),
    ):
        app.add_directive(name, directive)
