"""Where things stand in a checkout, and how files are written there: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

SCALES = ("quick", "full")
MAKE_ROOM = "Make room (`make clean` removes everything that was built), then run the same command again."
PACKAGE = Path(__file__).resolve().parents[1]


def root() -> Path:
    """The checkout: `KERNELBOOK_ROOT`, or the one this library is installed from."""
    return Path(os.environ.get("KERNELBOOK_ROOT") or PACKAGE.parents[1]).resolve()


def seed_from_environment() -> int:
    """`KERNELBOOK_SEED`, 0 where it is not set.  Raises ValueError where it is no whole number."""
    text = os.environ.get("KERNELBOOK_SEED", "0")
    if not text.isdecimal():
        raise ValueError(f"KERNELBOOK_SEED={text!r}: expected a whole number from 0 upwards, such as 7")
    return int(text)


def scale_from_environment() -> str:
    """`KERNELBOOK_SCALE`, quick where it is not set.  Raises ValueError where it is neither quick nor full."""
    text = os.environ.get("KERNELBOOK_SCALE", "quick")
    if text not in SCALES:
        raise ValueError(f"KERNELBOOK_SCALE={text!r}: expected one of {', '.join(SCALES)}")
    return text


def book() -> Path:
    """The chapters' folder."""
    return root() / "book"


def out(seed: int = 0, scale: str = "quick") -> Path:
    """Where a run's results go: `out/` for the site's own run, a folder beside it for any other seed or scale."""
    base = root() / "out"
    return base if (seed, scale) == (0, "quick") else base / "runs" / f"{scale}-seed-{seed}"


class DiskFull(RuntimeError):
    """No room for an output; what stood there before is unchanged."""


def full_disk(error: OSError) -> bool:
    """Whether an error says that there is no room left, on the disk or in the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, data: str | bytes) -> bool:
    """Write data to path by way of a temporary file and a rename; False if the file already held just that.

    Raises DiskFull where there is no room; the temporary file is then gone and the former file unchanged.
    """
    raw = data.encode() if isinstance(data, str) else data
    if path.exists() and path.read_bytes() == raw:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(raw)
        part.replace(path)
    except OSError as error:
        if full_disk(error):
            raise DiskFull(
                f"The disk is full: {path.name} was not written, and what stood there is unchanged. {MAKE_ROOM}"
            ) from None
        raise
    finally:
        part.unlink(missing_ok=True)
    return True


def write_json(path: Path, data: Any) -> bool:
    """Write data as indented JSON, as `write_whole` does."""
    return write_whole(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
