"""A check of the built site: it asks nobody for anything, and everything it points to is there."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "input": "src",
}
LINK_LOADS = {
    "stylesheet",
    "preload",
    "modulepreload",
    "icon",
    "preconnect",
    "dns-prefetch",
    "prefetch",
    "manifest",
    "apple-touch-icon",
}
FOREIGN = re.compile(r"^(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:@import\s+(?:url\()?|url\()\s*['\"]?([^'\")\s]+)", re.IGNORECASE)


class _Page(HTMLParser):
    """The addresses that a page loads, those it links to, and the anchors it has."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[tuple[str, int]] = []
        self.links: list[tuple[str, int]] = []
        self.anchors: set[str] = set()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {k: v or "" for k, v in attrs}
        line = self.getpos()[0]
        self.inside = tag
        self.anchors |= {a[k] for k in ("id", "name") if a.get(k)}
        loads = [a.get(LOADED.get(tag, ""), "")] + [part.split()[0] for part in a.get("srcset", "").split(",") if part.split()]
        if tag == "link" and LINK_LOADS & set(a.get("rel", "").split()):
            loads.append(a.get("href", ""))
        loads += IN_STYLE.findall(a.get("style", ""))
        self.loads += [(u, line) for u in loads if u]
        if tag == "a" and a.get("href"):
            self.links.append((a["href"], line))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.loads += [(u, self.getpos()[0]) for u in IN_STYLE.findall(data)]
        if self.inside == "script":
            loaded = re.findall(r"""(?:import\s*\(|import\s|from\s|\.src\s*=|fetch\s*\()\s*['"]((?:https?:)?//[^'"]+)""", data)
            self.loads += [(u, self.getpos()[0]) for u in loaded]


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text("utf8", "replace"))
    return page


def _target(url: str, at: Path, site: Path) -> tuple[Path, str] | None:
    """The file and the anchor that a local address means; None for addresses that are not local files."""
    parts = urlsplit(url)
    if parts.scheme or FOREIGN.match(url):
        return None
    path = unquote(parts.path)
    base = at if not path else (site / path.lstrip("/")) if path.startswith("/") else at.parent / path
    return (base / "index.html" if base.is_dir() else base), unquote(parts.fragment)


def problems(site: Path) -> list[str]:
    """One line per foreign load and per missing local target of the pages and style sheets below `site`.

    Raises ValueError where there is no page.
    """
    # the theme leaves its templates below _static; they are no pages
    pages = {p.resolve(): _read(p) for p in sorted(site.rglob("*.html")) if "_static" not in p.relative_to(site).parts}
    if not pages:
        raise ValueError(f"site={str(site)!r}: no page there; expected the folder of a built site")
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for url, line in page.loads:
            if FOREIGN.match(url):
                found.append(f"{name}:{line}: loads {url} from another host")
        for url, line in page.loads + page.links:
            target = _target(url, path, site.resolve())
            if target is None or url.startswith(("data:", "javascript:")):
                continue
            file, fragment = target
            if not file.exists():
                found.append(f"{name}:{line}: {url} does not exist")
            elif fragment and file.resolve() in pages and fragment not in pages[file.resolve()].anchors:
                found.append(f"{name}:{line}: {url} names an anchor that is not there")
    for sheet in sorted(site.rglob("*.css")):
        for url in IN_STYLE.findall(sheet.read_text("utf8", "replace")):
            if FOREIGN.match(url):
                found.append(f"{sheet.relative_to(site).as_posix()}: loads {url} from another host")
    return sorted(set(found))


def main(arguments: list[str] | None = None) -> int:
    """`python -m kernelbook.pages.site FOLDER`."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    found = problems(Path(folder))
    print("\n".join([*found, f"{len(found)} problems in the built site"]))
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
