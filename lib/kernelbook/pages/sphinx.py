"""Sphinx side of the book: outputs of the one run into the pages, chapter headers, cross-references, the ledger."""

from __future__ import annotations

import html
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from kernelbook.evidence import claims, execution, house, ledger
from kernelbook.pages import appendix, boxes

log = logging.getLogger(__name__)
WORDS_A_MINUTE = 180
LEVELS = ("introductory", "intermediate", "advanced")


# ---------------------------------------------------------------- outputs


def _chapter_file(docname: str) -> Path | None:
    path = house.root() / f"{docname}.md"
    return path if path.exists() and house.book() in path.parents and execution.is_notebook(path) else None


def refuse_stale(app: Any) -> None:
    """No page is built from outputs that its code would no longer give."""
    settings, stale = execution.settings_from_environment(), []
    for path in execution.notebooks():
        chapter = execution.read(path)
        if why := execution.why_stale(chapter, settings):
            stale.append(f"{chapter.place}: outputs are not current ({why})")
    if stale:
        raise ExtensionError("\n".join([*stale, "Run `make book`: it executes these chapters, then builds."]))


def draw_all_on_one_page(app: Any) -> None:
    """The single page knows how to draw whatever the many pages do.

    sphinx-exercise names the singlehtml builder for its own nodes, and Sphinx then forgets everybody else's.
    """
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def _reader_with_outputs(original: Any) -> Any:
    """MyST-NB's reader of a notebook's source, followed by the outputs of its last run."""

    def read(text: str, *arguments: Any, path: Any = None, **options: Any) -> Any:
        notebook = original(text, *arguments, path=path, **options)
        if path and house.book() in Path(path).resolve().parents:
            execution.attach(execution.Chapter(Path(path).resolve(), notebook), execution.settings_from_environment())
        return notebook

    read.original = original  # type: ignore[attr-defined]
    return read


def pages_to_reread(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages whose outputs are newer than the page, and those that gather from other pages."""
    settings, again = execution.settings_from_environment(), []
    for docname in env.found_docs - added - changed:
        path = _chapter_file(docname)
        stamp = execution.results(path, settings)[1] if path else None
        newer = stamp and stamp.exists() and stamp.stat().st_mtime > env.all_docs[docname] / 1e6
        if newer or "kernelbook_gathers" in env.metadata[docname]:
            again.append(docname)
    return again


def offer_notebook(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """The executed notebook goes under the theme's download button."""
    path = _chapter_file(pagename)
    if app.builder.format != "html" or path is None:
        return
    to = Path(app.outdir, "_sources", f"{pagename}.ipynb")
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(execution.results(path, execution.settings_from_environment())[0], to)
    context["ipynb_source"] = f"{pagename}.ipynb"


# ---------------------------------------------------------------- references


def chapter_reference(env: Any, docname: str, builder: Any, name: str) -> nodes.Node:
    """A link to a chapter, or its outline title where its page does not exist yet."""
    title = appendix.titles()[name]
    if f"book/{name}" not in env.found_docs:
        return nodes.inline(text=title, classes=["kb-unwritten"])
    reference = nodes.reference("", "", internal=True, refuri=builder.get_relative_uri(docname, f"book/{name}"))
    reference += nodes.Text(title)
    return reference


class ChapterRole(SphinxRole):
    """{chapter}`width/depth`: a link, or the outline's title until the page exists."""

    def run(self) -> Any:
        if self.text not in appendix.titles():
            log.warning(f"no chapter {self.text!r} in book/outline.yml", location=self.get_location())
            return [nodes.Text(self.text)], []
        return [chapter_reference(self.env, self.env.docname, self.env.app.builder, self.text)], []


def paper_reference(paper: dict[str, Any]) -> nodes.Node:
    """`Jacot et al. (2018)`, linked to arXiv or to the DOI."""
    where = (
        f"https://arxiv.org/abs/{paper['arxiv']}" if paper["arxiv"] else f"https://doi.org/{paper['doi']}" if paper["doi"] else ""
    )
    citation = ledger.short_citation(paper)
    if not where:
        return nodes.inline(text=citation)
    reference = nodes.reference("", "", internal=False, refuri=where, reftitle=paper["title"])
    reference += nodes.Text(citation)
    return reference


class PaperRole(SphinxRole):
    """{paper}`ntk`: authors and year, linked."""

    def run(self) -> Any:
        found = [p for p in ledger.papers() if p["key"] == self.text]
        if not found:
            log.warning(f"no paper {self.text!r} in book/papers.yml", location=self.get_location())
            return [nodes.Text(self.text)], []
        return [paper_reference(found[0])], []


# ---------------------------------------------------------------- chapter header


def _minutes(chapter: execution.Chapter) -> int:
    words = sum(len(c.source.split()) for c in chapter.notebook.cells if c.cell_type == "markdown")
    lines = sum(len(c.source.splitlines()) for _, c in chapter.code)
    return max(1, round(words / WORDS_A_MINUTE + lines * 4 / 60))


def _row(label: str, parts: list[nodes.Node]) -> nodes.Node:
    row = nodes.paragraph(classes=["kb-header-row"])
    row += nodes.inline(text=label, classes=["kb-header-label"])
    for i, part in enumerate(parts):
        row += [nodes.Text(" · " if i else " "), part]
    return row


def header(app: Any, chapter: execution.Chapter) -> nodes.container:
    """What a reader wants to know before starting: time, level, what it needs, which papers it carries."""
    front, place = chapter.front, f"book/{chapter.name}"
    stamp = execution.stamp_of(chapter.path, execution.settings_from_environment()) or {}
    link = partial(chapter_reference, app.env, place, app.builder)
    papers = {p["key"]: p for p in ledger.papers()}
    box = nodes.container(classes=["kb-header", f"kb-{front['meaning']}"])
    times = f"{_minutes(chapter)} min to read · {stamp.get('core_seconds', 0):.0f} s to run on one core · {front['level']}"
    box += nodes.paragraph("", times, classes=["kb-header-row"])
    for key, label in (("needs", "Needs"), ("again", "Meets again in")):
        if front.get(key):
            box += _row(label, [link(n) for n in front[key]])
    if front.get("papers"):
        box += _row("Papers", [paper_reference(papers[k]) for k in front["papers"]])
    return box


def add_header(app: Any, doctree: nodes.document) -> None:
    """Insert the header under the chapter's title."""
    path = _chapter_file(app.env.docname)
    if path is None or not (chapter := execution.read(path)).front.get("meaning"):
        return
    title = next(iter(doctree.findall(nodes.title)))
    title.parent.insert(title.parent.index(title) + 1, header(app, chapter))
    for known in ("papers.yml", "outline.yml"):
        app.env.note_dependency(str(house.book() / known))


# ---------------------------------------------------------------- ledger page


def _cell(text: str, label: str, classes: str = "") -> str:
    return f'<td data-label="{label}" class="{classes}">{text}</td>'


def _claim_row(relative: Any, c: dict[str, Any]) -> str:
    state, margin = boxes.STATES[c["verdict"]], c["margin"]
    statement = boxes.html_with_math(c["statement"])
    where = f"{relative('book/' + c['chapter'])}#{boxes.anchor(c['id'])}"
    measured = "" if c["measured"] is None else html.escape(claims.number_text(c["measured"]))
    cells = [
        _cell(f"{claims.MARKS[c['verdict']]} {c['verdict']}", "verdict", f"kb-state {state}"),
        _cell(f'<a href="{where}">{statement}</a>', "claim", "kb-wide"),
        _cell(c["kind"], "kind"),
        _cell(measured, "measured"),
        _cell("" if c["bound"] is None else html.escape(claims.bound_text(c)), "bound"),
        _cell("" if margin is None or c["verdict"] == claims.ABSENT else f"{margin:.1f} sd", "margin"),
    ]
    return f'<tr data-verdict="{html.escape(c["verdict"])}">{"".join(cells)}</tr>'


def _group(relative: Any, title: str, rows: list[dict[str, Any]], written: bool) -> str:
    status = "measured" if rows else "missing"
    run = "{core_seconds:.0f} s on one core, {device}, seed {seed}".format(**rows[0]) if rows else ""
    note = f"<em>{run}</em>" if rows else "<em>no claim yet</em>" if written else "<em>chapter not written yet</em>"
    body = "".join(_claim_row(relative, c) for c in rows)
    return f'<tbody class="kb-paper" data-status="{status}"><tr class="kb-paper-head"><th colspan="6" scope="colgroup">{title} {note}</th></tr>{body}</tbody>'


def _paper_title(paper: dict[str, Any], chapters: dict[str, str]) -> str:
    arxiv = (
        f"https://arxiv.org/abs/{paper['arxiv']}" if paper["arxiv"] else f"https://doi.org/{paper['doi']}" if paper["doi"] else ""
    )
    name = f"<cite>{html.escape(paper['title'])}</cite>"
    linked = f'<a href="{arxiv}">{name}</a>' if arxiv else name
    return f"{html.escape(ledger.short_citation(paper))} {linked} <span>{html.escape(chapters[paper['chapter']])}</span>"


FILTERS = (
    '<div class="kb-filters"><label>Find <input type="search" id="kb-find" placeholder="a word, a paper, a chapter"></label>'
    '<label>Show <select id="kb-show"><option value="">all 143 papers</option><option value="measured">papers with claims</option>'
    '<option value="missing">papers without claims</option></select></label>'
    '<label>Verdict <select id="kb-verdict"><option value="">any</option>{options}</select></label><output id="kb-count"></output></div>'
)
COLUMNS = ("Verdict", "Claim", "Kind", "Measured", "Bound", "Margin")


def ledger_table(made: dict[str, Any], relative: Any, written: set[str]) -> str:
    """The ledger as an HTML table: one group per paper, after one group per foundations chapter."""
    chapters, rows = appendix.titles(), made["claims"]
    keys = {p["key"] for p in made["papers"]}
    groups = []
    for name in dict.fromkeys(c["chapter"] for c in rows if c["paper"] not in keys):
        groups.append(_group(relative, html.escape(chapters[name]), [c for c in rows if c["chapter"] == name], True))
    for p in made["papers"]:
        own = [c for c in rows if c["paper"] == p["key"]]
        groups.append(_group(relative, _paper_title(p, chapters), own, p["chapter"] in written))
    head = "".join(f'<th scope="col">{c}</th>' for c in COLUMNS)
    options = "".join(f"<option>{v}</option>" for v in boxes.STATES)
    return f'{FILTERS.format(options=options)}<table class="kb-ledger"><thead><tr>{head}</tr></thead>{"".join(groups)}</table>'


class Ledger(SphinxDirective):
    """{ledger}: all papers and claims of this build."""

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname]["kernelbook_gathers"] = "ledger"
        made = ledger.write()
        relative = partial(self.env.app.builder.get_relative_uri, self.env.docname)
        written = {d.removeprefix("book/") for d in self.env.found_docs}
        counts = [c["verdict"] for c in made["claims"]]
        tally = ", ".join(f"{counts.count(v)} {v}" for v in dict.fromkeys(counts))
        measured = sum(p["status"] == "measured" for p in made["papers"])
        summary = f"{len(counts)} claims in this build: {tally}. {measured} of {len(made['papers'])} papers have claims."
        return [
            nodes.paragraph(text=summary, classes=["kb-tally"]),
            nodes.raw("", ledger_table(made, relative, written), format="html"),
        ]


def setup(app: Any) -> dict[str, Any]:
    """Connect the extension."""
    from myst_nb.core import read

    if not hasattr(read.read_myst_markdown_notebook, "original"):
        read.read_myst_markdown_notebook = _reader_with_outputs(read.read_myst_markdown_notebook)
    app.connect("builder-inited", refuse_stale)
    app.connect("builder-inited", draw_all_on_one_page)
    app.connect("env-get-outdated", pages_to_reread)
    app.connect("doctree-read", add_header)
    app.connect("html-page-context", offer_notebook, priority=100)
    app.add_role("chapter", ChapterRole())
    app.add_role("paper", PaperRole())
    app.add_directive("ledger", Ledger)
    appendix.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
