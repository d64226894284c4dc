"""`python -m kernelbook.pages.pdf`: the whole book as one PDF, printed by Chromium from a single page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kernelbook.evidence import execution
from kernelbook.pages import build

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PRINT = """<style>
@page { size: A4; margin: 18mm 16mm; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.bd-header, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer, .bd-footer, .skip-link,
.copybtn, .headerlink, .kb-filters, .kb-slider input { display: none !important; }
html { font-size: 13px !important; }
.bd-container, .bd-container__inner, .bd-main, .bd-content, .bd-article-container, .bd-article { max-width: none !important; margin: 0 !important; padding: 0 !important; }
[id^="document-book"] { display: block; break-before: page; }
figure, pre, .kb-claim, .kb-explore, .admonition, .proof { break-inside: avoid; }
.math, mjx-container, pre { overflow: visible !important; }
h1, h2, h3 { break-after: avoid; }
</style>"""


def browser() -> str | None:
    """The first Chromium-like browser on this machine."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def one_page(folder: Path) -> Path:
    """The single page of the book with addresses that work where it stands, and with styles for print."""
    made = folder / "book" / "intro.html"
    text = re.sub(r'((?:src|href)=")(?:\.\./)+(_static|_images)/', r"\1\2/", made.read_text("utf8"))
    page = folder / "print.html"
    page.write_text(text.replace("</head>", f"{PRINT}</head>"), "utf8")
    return page


def print_page(program: str, page: Path, to: Path) -> bool:
    """Print a page to a PDF with an outline; False where the browser gave none."""
    part = to.with_suffix(".part.pdf")
    with tempfile.TemporaryDirectory(prefix="kernelbook-chromium-") as profile:
        quiet = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-sync",
        ]
        options = [
            "--no-pdf-header-footer",
            "--generate-pdf-document-outline",
            "--virtual-time-budget=60000",
            "--allow-file-access-from-files",
        ]
        command = [program, *quiet, *options, f"--user-data-dir={profile}", f"--print-to-pdf={part}", page.as_uri()]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    if not part.exists() or not part.read_bytes().startswith(b"%PDF"):
        part.unlink(missing_ok=True)
        return False
    part.replace(to)
    return True


def main() -> int:
    """Build the single page and print it to `out/the-book-of-kernels.pdf`."""
    program = browser()
    if program is None:
        print("No Chromium was found: install chromium (or Chrome), then run `make pdf` again.", file=sys.stderr)
        return 1
    folder = execution.settings_from_environment().folder.parent
    work, to = folder / "build" / "singlehtml", folder / "the-book-of-kernels.pdf"
    if not build.pages(work, folder / "build" / "doctrees-single", builder="singlehtml"):
        print("The single page was not built: see the messages above.", file=sys.stderr)
        return 1
    if not print_page(program, one_page(work), to):
        print("Chromium printed nothing: try `make pdf` again, or print the site's pages by hand.", file=sys.stderr)
        return 1
    print(f"PDF of {to.stat().st_size / 1e6:.1f} MB: {to.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
