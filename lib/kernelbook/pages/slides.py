"""Slides of a chapter, cut from its built page: one picture, box or piece of code a slide, the prose as speaker's notes."""

from __future__ import annotations

import copy
import html
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_CODE_LINES = 16
KEPT_STATIC = ("book.css", "slides.css", "slides.js", "pygments.css", "mathjax")

PAGE = """<!doctype html>
<html lang="en" data-theme="light">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="icon" href="_static/favicon.svg">
<link rel="stylesheet" href="_static/pygments.css"><link rel="stylesheet" href="_static/book.css">
<link rel="stylesheet" href="_static/slides.css">
<script defer src="_static/mathjax/tex-svg-full.js"></script><script defer src="_static/slides.js"></script></head>
<body class="{meaning}">
<main>{slides}</main>
<footer><a href="index.html">The Book of Kernels</a><span>{title}</span><output id="place"></output></footer>
</body></html>
"""


@dataclass
class Slide:
    """One slide: its kind, heading, body and notes, all as HTML."""

    kind: str
    heading: str
    body: str
    notes: list[str] = field(default_factory=list)

    def html(self) -> str:
        notes = f'<aside class="notes">{"".join(self.notes)}</aside>' if self.notes else ""
        heading = f"<h2>{self.heading}</h2>" if self.heading else ""
        return f'<section class="slide {self.kind}">{heading}<div class="body">{self.body}</div>{notes}</section>'


def first_sentence(text: str) -> str:
    """The first sentence of a paragraph's HTML; formulas and code in it stay whole."""
    pieces = re.split(r"(?<=[.?!:])\s+(?=[A-Z<*])", text.strip(), maxsplit=1)
    return pieces[0] if pieces[0].count("<") == pieces[0].count(">") and _balanced(pieces[0]) else text.strip()


def _balanced(text: str) -> bool:
    opened = re.findall(r"<(\w+)[^>/]*>", text)
    closed = re.findall(r"</(\w+)>", text)
    return sorted(opened) == sorted(closed)


def _inner(tag: Any) -> str:
    return "".join(str(c) for c in tag.contents)


def _classes(tag: Any) -> set[str]:
    return set(tag.get("class") or [])


class _Cutter:
    """Walks a page's blocks in order and makes slides of them."""

    def __init__(self) -> None:
        self.slides: list[Slide] = []
        self.heading = ""
        self.prose: list[str] = []

    def add(self, kind: str, body: str) -> None:
        self.slides.append(Slide(kind, self.heading, body, self.prose))
        self.prose = []

    def lead(self) -> str:
        """The sentence that introduces what comes next: the last one said."""
        if not self.prose:
            return ""
        text = re.sub(r"^<p>|</p>$", "", self.prose[-1])
        return f'<p class="lead">{first_sentence(text)}</p>' if self.prose[-1].startswith("<p>") else ""

    def section(self, tag: Any) -> None:
        self.finish()
        self.heading = _inner(_without_anchor(tag.find(["h2", "h3"])))
        for block in tag.find_all(recursive=False):
            if block.name not in ("h2", "h3"):
                self.block(block)
        self.finish()

    def finish(self) -> None:
        """Prose after the last picture of a section becomes a slide of its own, or notes of the slide before."""
        if self.prose and self.slides and self.slides[-1].heading == self.heading:
            self.slides[-1].notes += self.prose
            self.prose = []
        elif self.prose:
            body = "".join(
                f'<p class="lead">{first_sentence(re.sub("^<p>|</p>$", "", p))}</p>'
                for p in self.prose[:3]
                if p.startswith("<p>")
            )
            self.add("text", body)

    def block(self, tag: Any) -> None:
        classes = _classes(tag)
        if tag.name == "section":
            self.section(tag)
        elif "cell" in classes:
            self.cell(tag)
        elif {"proof", "admonition", "exercise"} & classes or "math" in classes:
            self.add("box", self.lead() + str(tag))
        elif tag.name in ("figure", "img", "table"):
            self.add("picture", str(tag))
        elif tag.name in ("ul", "ol"):
            self.add("text", self.lead() + str(tag))
        elif tag.name == "p":
            self.prose.append(f"<p>{_inner(tag)}</p>")

    def cell(self, tag: Any) -> None:
        output, source = tag.select_one(".cell_output"), tag.select_one(".cell_input")
        boxes = output.select(".kb-claim, .kb-explore, figure") if output else []
        lines = len(source.get_text().strip().splitlines()) if source else 0
        hidden = source is not None and source.find_parent("details") is not None
        if boxes:
            for box in boxes:
                kind = "explorer" if "kb-explore" in _classes(box) else "claim" if "kb-claim" in _classes(box) else "picture"
                self.add(kind, ("" if kind == "claim" else self.lead()) + str(box))
        elif lines <= MOST_CODE_LINES and not hidden and (output or "def " in source.get_text()):
            self.add("code", self.lead() + str(source or "") + str(output or ""))


def _without_anchor(tag: Any) -> Any:
    tag = copy.copy(tag)
    for anchor in tag.select("a.headerlink"):
        anchor.decompose()
    return tag


def cut(page: str) -> tuple[str, str, list[Slide]]:
    """A built page's title, meaning (compare, slide or compute), and slides.  Raises ValueError if it is no chapter's page."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, "html.parser")
    top = soup.select_one("article section")
    if top is None or top.find("h1") is None:
        raise ValueError("page: expected a built chapter with a title")
    for tag in top.select("button, a.headerlink"):
        tag.decompose()
    header, cutter = top.select_one(".kb-header"), _Cutter()
    meaning = (
        next((c for c in _classes(header) if c.startswith("kb-") and c != "kb-header"), "kb-compare") if header else "kb-compare"
    )
    title = _inner(top.find("h1"))
    cutter.add("title", f"<h1>{title}</h1>{header or ''}")
    for block in top.find_all(recursive=False):
        if block.name != "h1" and block is not header:
            cutter.block(block)
    cutter.finish()
    return BeautifulSoup(title, "html.parser").get_text(), meaning, [s for s in cutter.slides if s.body.strip()]


def _local(body: str) -> str:
    """Addresses as seen from the slides' own folder; links to other pages become plain text."""
    body = re.sub(r'(src|href)="(?:\.\./)+(_images|_static)/', r'\1="\2/', body)
    return re.sub(r'<a class="reference internal" href="(?!#claim)[^"]*"[^>]*>(.*?)</a>', r"\1", body, flags=re.S)


def write(site: Path, chapters: list[str], to: Path) -> dict[str, int]:
    """Slides of chapters of a built site, with everything they load, into the folder `to`; the number of slides of each."""
    to.mkdir(parents=True, exist_ok=True)
    counts, entries = {}, []
    for name in chapters:
        title, meaning, slides = cut((site / "book" / f"{name}.html").read_text("utf8"))
        file = name.replace("/", "-") + ".html"
        body = _local("".join(s.html() for s in slides))
        (to / file).write_text(PAGE.format(title=html.escape(title), meaning=meaning, slides=body), "utf8")
        counts[name] = len(slides)
        entries.append(f'<li><a href="{file}">{html.escape(title)}</a> ({len(slides)} slides)</li>')
    (to / "_static").mkdir(exist_ok=True)
    for kept in (*KEPT_STATIC, "favicon.svg"):
        source, target = site / "_static" / kept, to / "_static" / kept
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copyfile(source, target)
    if (site / "_images").exists():
        shutil.copytree(site / "_images", to / "_images", dirs_exist_ok=True)
    words = "<p>Arrow keys or a swipe move, <b>n</b> shows the notes, printing gives one slide a page.</p>"
    index = Slide("text", "The Book of Kernels: slides", f"<ul>{''.join(entries)}</ul>{words}").html()
    (to / "index.html").write_text(PAGE.format(title="Slides", meaning="kb-compare", slides=index), "utf8")
    return counts
