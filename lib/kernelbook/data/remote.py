"""Data from the network, for `full` scale only: fetched once, checked against its SHA-256 every time."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import math
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch

ATTEMPTS = 5  # in a row without a new byte
LIMIT_S = 3600.0  # of a whole download, and of the wait for another process
PAUSE_S = 0.5  # before the second attempt; doubled for each further one
SILENCE_S = 30.0
CHUNK = 1 << 20
BUSY = {408, 425, 429, 500, 502, 503, 504}

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST = {
    "train": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    },
    "test": {
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10 = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def cache_folder() -> Path:
    """Where fetched files stay: `KERNELBOOK_DATA`, or a folder of this user's cache."""
    if own := os.environ.get("KERNELBOOK_DATA"):
        return Path(own).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "kernelbook" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kernelbook"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelbook"


def fetch(url: str, sha256: str, *, name: str | None = None, folder: str | Path | None = None) -> Path:
    """The file at url, in the cache after its first download; its content has this SHA-256 each time, or the call fails.

    url: http or https.  name: the file's name in the cache (default: the url's last part); two files need two names.
    folder: default `cache_folder()`.
    A cut connection is taken up where it broke off; a damaged cached file is fetched again; of processes that ask at
    once, one downloads and the others wait.
    Raises ValueError for bad arguments; RuntimeError, with nothing left behind, for a server's refusal, no network, a full
    disk or another content.
    """
    source = _Source(url, sha256.lower() if isinstance(sha256, str) else sha256)
    target = (Path(folder) if folder is not None else cache_folder()) / _file_name(url, name)
    if _digest(target) == source.sha256:
        return target
    with _alone(target):
        if _digest(target) != source.sha256:
            _remove(target)
            _download(source, target)
    return target


def mnist(split: str = "train", *, folder: str | Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Handwritten digits: images (n, 28, 28) in uint8 and labels (n,) in int64, n = 60,000 in "train", 10,000 in "test".

    folder: where the files (11 MB and 2 MB) are kept.  Raises as `fetch` does, and ValueError for another split.
    Source: LeCun, Cortes and Burges (1998), the mirror that torchvision uses.
    """
    _check_split(split, MNIST)
    files = [fetch(MNIST_URL + file, sha256, name=f"mnist-{file}", folder=folder) for file, sha256 in MNIST[split].items()]
    images, labels = (_idx(gzip.decompress(path.read_bytes()), path.name) for path in files)
    return images, labels.long()


def cifar10(split: str = "train", *, folder: str | Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Small photographs: images (n, 3, 32, 32) in uint8 and labels (n,) in int64, n = 50,000 in "train", 10,000 in "test".

    folder: where the archive (170 MB) is kept.  Raises as `fetch` does, and ValueError for another split.
    Source: Krizhevsky (2009), the binary version: the one for Python is a pickle.
    """
    _check_split(split, CIFAR10)
    path = fetch(CIFAR10_URL, CIFAR10_SHA256, folder=folder)
    with tarfile.open(path, "r:gz") as archive:
        # read as they stand there: nothing is unpacked onto the disk
        parts = [_cifar(_member(archive, f"cifar-10-batches-bin/{file}"), file) for file in CIFAR10[split]]
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


# ---------------------------------------------------------------- formats


def _check_split(split: Any, known: dict[str, Any]) -> None:
    if split not in known:
        raise ValueError(f"split={split!r}: expected {' or '.join(map(repr, known))}")


def _idx(raw: bytes, name: str) -> torch.Tensor:
    """The bytes of an idx file as a tensor: two zeros, type, dimensions, sizes, values; everything with the high byte first."""
    dimensions = raw[3] if len(raw) > 3 else 0
    start = 4 + 4 * dimensions
    if raw[:3] != b"\0\0\x08" or not dimensions or len(raw) < start:
        raise ValueError(f"{name} begins with {raw[:4].hex()}: expected an idx file of unsigned bytes")
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    if len(raw) - start != math.prod(shape):
        raise ValueError(f"{name} holds {len(raw) - start} values: its header says {shape}")
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(shape)


def _cifar(raw: bytes, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a file of records: a label, then 32 x 32 values of red, of green and of blue."""
    size = 1 + 3 * 32 * 32
    if not raw or len(raw) % size:
        raise ValueError(f"{name} has {len(raw)} bytes: expected records of {size}")
    records = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(-1, size)
    if int(records[:, 0].max()) > 9:
        raise ValueError(f"{name} has a label {int(records[:, 0].max())}: expected 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32).clone(), records[:, 0].long()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise ValueError(f"{Path(str(archive.name)).name} has no file {name}")
    return file.read()


# ---------------------------------------------------------------- one download


@dataclass
class _Source:
    """What is asked for."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256={self.sha256!r}: expected 64 hexadecimal digits")
        if not isinstance(self.url, str) or urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise ValueError(f"url={self.url!r}: expected an address that begins with http:// or https://")


class _Cut(Exception):
    """The connection failed in a way that may pass."""


def _file_name(url: str, name: str | None) -> str:
    chosen = unquote(urlsplit(url).path).rsplit("/", 1)[-1] if name is None else name
    if not chosen or chosen.startswith(".") or set(chosen) & set('/\\:*?"<>|\0'):
        raise ValueError(f"name={chosen!r} (of {url}): expected a plain file name; give one with name=")
    return chosen


def _digest(path: Path) -> str | None:
    """SHA-256 of a file's content; None where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time pass; the system lets go of the lock when its holder dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=LIMIT_S)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RuntimeError(f"{lock.lock_file} is held by another process for {LIMIT_S:.0f} s: end that process") from None
    except OSError as error:
        told = f"cannot be written to ({error.strerror}): set KERNELBOOK_DATA to another folder"
        raise RuntimeError(f"{target.parent} {told}") from error
    try:
        yield
    finally:
        lock.release()


def _download(source: _Source, target: Path) -> None:
    """Fetch into a temporary file, check, rename; whatever happens, no temporary file stays."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_bytes(b"")
        _fill(source, target, part)
        found = _digest(part)
        if found != source.sha256:
            raise RuntimeError(
                f"{source.url} has SHA-256 {found}, expected {source.sha256}: the file was removed; "
                "the server's file changed, or something on the way did: try again, then report it"
            )
        part.replace(target)
    except OSError as error:
        raise _disk_sentence(source, target, error) from error
    finally:
        _remove(part)


def _fill(source: _Source, target: Path, part: Path) -> None:
    """Attempt after attempt until the part is whole; each takes up where the last one was cut."""
    end, failed, tag = time.monotonic() + LIMIT_S, 0, ""
    while True:
        before = part.stat().st_size
        try:
            return _attempt(source, part, tag)
        except _Cut as cut:
            tag, why = cut.args
        failed = 1 if part.stat().st_size > before else failed + 1
        if failed >= ATTEMPTS or time.monotonic() > end:
            raise RuntimeError(
                f"{source.url} could not be fetched ({why}): check the network and try again, or copy the file "
                f"with SHA-256 {source.sha256} to {target}"
            )
        time.sleep(min(PAUSE_S * 2 ** (failed - 1), 30))


def _attempt(source: _Source, part: Path, tag: str) -> None:
    """Ask for what is missing and append it.  Raises _Cut, with a tag of the file's version, where asking again may help."""
    have = part.stat().st_size
    # without a tag a server's file may have changed in between: then from the start
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
    with _answer(source, headers, tag) as response:
        tag = _tag(response)
        kept = _kept(response, have)
        missing = _length(response)
        _check_space(source, part, missing)
        with part.open("r+b") as file:
            file.truncate(kept)
            file.seek(kept)
            got = _copy(response, file, tag)
    if missing is not None and got < missing:
        raise _Cut(tag, f"the connection was cut after {kept + got} of {kept + missing} bytes")


def _answer(source: _Source, headers: dict[str, str], tag: str) -> Any:
    request = urllib.request.Request(source.url, headers={"User-Agent": "kernelbook", "Accept-Encoding": "identity", **headers})
    try:
        return urllib.request.urlopen(request, timeout=SILENCE_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in BUSY or (error.code == 416 and headers):
            raise _Cut("" if error.code == 416 else tag, f"the server answers {error.code} {error.reason}") from error
        said = f"the server answers {error.code} {error.reason}"
        raise RuntimeError(f"{source.url} cannot be fetched: {said}; check the address") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(tag, f"no connection: {getattr(error, 'reason', error)}") from error


def _tag(response: Any) -> str:
    """What names this version of the file; a weak tag does not say that the bytes are the same."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _kept(response: Any, have: int) -> int:
    """How many of the bytes at hand the answer continues: all, or none where it is the whole file."""
    if response.status != 206:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not given or int(given[1]) != have:
        raise _Cut("", "the server sent another part of the file than it was asked for")
    return have


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _check_space(source: _Source, part: Path, missing: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing is not None and free < missing:
        needed = f"{missing / 1e6:,.1f} MB are missing and {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, needed)


def _copy(response: Any, file: Any, tag: str) -> int:
    """Append what the server sends; how many bytes came."""
    got = 0
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(tag, f"the connection was cut: {error or type(error).__name__}") from error
        if not chunk:
            return got
        _write(file, chunk)
        got += len(chunk)


def _write(file: Any, chunk: bytes) -> None:
    file.write(chunk)


def _disk_sentence(source: _Source, target: Path, error: OSError) -> RuntimeError:
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    what = "the disk is full" if full else "it cannot be written to"
    return RuntimeError(
        f"{source.url} has no place in {target.parent}: {what} ({error.strerror}); nothing of it was kept: "
        "make room, or set KERNELBOOK_DATA to another folder"
    )
