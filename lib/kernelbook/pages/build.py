"""`python -m kernelbook.pages.build`: the site and the ledger from the outputs of the last run."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernelbook.evidence import execution, house, ledger
from kernelbook.pages import site


def pages(to: Path, doctrees: Path, contents: Path | None = None, builder: str = "html") -> bool:
    """Build the pages of a table of contents (the book's own where none is given) into `to`; warnings are errors."""
    from jupyter_book.sphinx import build_sphinx

    root = house.root()
    status = build_sphinx(
        root,
        to,
        noconfig=True,
        path_config=root / "_config.yml",
        confoverrides={"external_toc_path": str(contents or root / "_toc.yml"), "nitpicky": True, "latex_individualpages": False},
        doctreedir=doctrees,
        builder=builder,
        quiet=True,
        warningiserror=True,
        keep_going=True,
    )
    return status == 0


def front_door(pages: Path) -> None:
    """The folder's own address leads to the first page."""
    to = "book/intro.html"
    head = f'<meta charset="utf-8"><title>The Book of Kernels</title><meta http-equiv="refresh" content="0; url={to}">'
    house.write_whole(
        pages / "index.html", f'<!doctype html><html lang="en">{head}<a href="{to}">The Book of Kernels</a></html>\n'
    )


def replace(new: Path, site_folder: Path) -> None:
    """Put a complete copy of the new pages in the place of the old ones."""
    fresh, old = (site_folder.with_name(f"{site_folder.name}.{x}") for x in ("new", "old"))
    site_folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(new, fresh)
    if site_folder.exists():
        site_folder.rename(old)
    fresh.rename(site_folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _room() -> Iterator[None]:
    """A full disk ends in a sentence."""
    try:
        yield
    except house.DiskFull as full:
        raise SystemExit(str(full)) from None
    except OSError as error:
        if not house.full_disk(error):
            raise
        raise SystemExit(
            f"The disk is full: the site was not published, and the former site is untouched. {house.MAKE_ROOM}"
        ) from None


def main() -> int:
    """Build, check and publish the site below `out/`; the former site stays where anything fails."""
    from filelock import FileLock, Timeout

    started = time.monotonic()
    folder = execution.settings_from_environment().folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another build is running in this checkout: wait for it to end, or stop it, then try again.", file=sys.stderr)
        return 2
    with lock, _room():
        built = folder / "build" / "html"
        if not pages(built, folder / "build" / "doctrees"):
            print("The site was not built: see the messages above. The former site is untouched.", file=sys.stderr)
            return 1
        front_door(built)
        if found := site.problems(built):
            print(
                "\n".join(
                    [*found, "The site was not published: its pages must load nothing foreign and point to nothing missing."]
                )
            )
            return 1
        made = ledger.write()
        replace(built, folder / "site")
    verdicts = [c["verdict"] for c in made["claims"]]
    tally = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    print(f"Ledger: {len(verdicts)} claims ({tally}) and {len(made['papers'])} papers.")
    print(f"Site built in {time.monotonic() - started:.0f} s. Open {(folder / 'site' / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
