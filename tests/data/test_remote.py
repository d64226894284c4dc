import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections import namedtuple

import pytest
import torch
from kernelbook.data import remote
from kernelbook.evidence import run

CONTENT = run.rng("remote").integers(256, size=300_000, dtype="uint8").tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Files on loopback; `script` says what is wrong with the first answers, and `seen` what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.script, self.seen = {"/file.bin": CONTENT}, [], []
        self.ranges, self.tag, self.wait = True, '"one"', 0.0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a cut connection is what the tests ask for


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append(asked)
        time.sleep(self.server.wait)
        trouble = self.server.script.pop(0) if self.server.script else None
        if isinstance(trouble, int) or self.path not in self.server.files:
            return self.send_error(trouble or 404)
        self.answer(self.server.files[self.path], asked, trouble)

    def answer(self, content, asked, trouble):
        same = self.headers.get("If-Range") in (None, self.server.tag)
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges and same else 0
        self.send_response(206 if start else 200)
        if start:
            shift = 7 if trouble == "shift" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        if trouble != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: len(body) // 2] if trouble == "cut" else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_S", 0.0)
    monkeypatch.setattr(remote, "SILENCE_S", 10.0)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join(10)


def left(folder):
    """What stands in the cache besides the lock."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.exists() else []


def get(server, folder, **more):
    return remote.fetch(f"{server.url}/file.bin", SHA256, folder=folder, **more)


def test_a_file_comes_once_and_is_taken_from_the_cache_after(server, tmp_path):
    path = get(server, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT and path.name == "file.bin"
    assert get(server, path.parent) == path
    assert server.seen == [None] and left(path.parent) == ["file.bin"]


def test_names_and_folders(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELBOOK_DATA", str(tmp_path / "own"))
    assert get(server, None, name="other.bin") == tmp_path / "own" / "other.bin"
    monkeypatch.delenv("KERNELBOOK_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert remote.cache_folder() == tmp_path / "cache" / "kernelbook"


@pytest.mark.parametrize(
    ("url", "sha256", "name", "told"),
    [
        ("http://x/a", "12", None, "sha256='12'"),
        ("http://x/a", None, None, "sha256=None"),
        ("file:///etc/passwd", SHA256, None, "url='file:///etc/passwd'"),
        ("x/a", SHA256, None, "url='x/a'"),
        ("http://x/", SHA256, None, "plain file name"),
        ("http://x/a%2F..", SHA256, None, "plain file name"),
        ("http://x/a", SHA256, "../a", "name='../a'"),
    ],
)
def test_bad_arguments_are_named(url, sha256, name, told, tmp_path):
    with pytest.raises(ValueError, match=re.escape(told)):
        remote.fetch(url, sha256, name=name, folder=tmp_path)
    assert not left(tmp_path)


def test_another_content_is_refused_and_removed(server, tmp_path):
    other = "0" * 64
    with pytest.raises(RuntimeError) as error:
        remote.fetch(f"{server.url}/file.bin", other, folder=tmp_path)
    assert all(word in str(error.value) for word in (f"{server.url}/file.bin", SHA256, other, "removed"))
    assert not left(tmp_path) and len(server.seen) == 1


def test_a_cut_connection_is_taken_up_where_it_broke_off(server, tmp_path):
    server.script = ["cut", "cut"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.seen == [None, "bytes=150000-", "bytes=225000-"]


@pytest.mark.parametrize("what", ["no ranges", "no tag", "another version", "another part"])
def test_where_it_cannot_be_taken_up_it_begins_anew(server, tmp_path, what):
    server.script = ["cut"]
    if what == "no ranges":
        server.ranges = False
    elif what == "no tag":
        server.tag = None
    elif what == "another part":
        server.script = ["cut", "shift"]
    else:
        server.files["/file.bin"] = bytes(len(CONTENT))
        server.script = Renewing(server)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.seen) == (3 if what == "another part" else 2)


class Renewing(list):
    """A script whose first answer is the half of an old file; after it the file is a new one."""

    def __init__(self, server):
        super().__init__(["cut", None])
        self.server = server

    def pop(self, at):
        trouble = super().pop(at)
        if trouble is None:
            self.server.files["/file.bin"], self.server.tag = CONTENT, '"two"'
        return trouble


def test_a_file_of_unknown_length_is_whole_when_its_hash_is(server, tmp_path):
    server.script = ["no length"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_connection_that_is_cut_again_and_again_ends_in_a_sentence(server, tmp_path):
    server.ranges, server.script = False, ["cut"] * 99
    with pytest.raises(RuntimeError, match=r"cut after 150000 of 300000 bytes.*check the network.*copy the file"):
        get(server, tmp_path)
    assert not left(tmp_path) and len(server.seen) <= remote.ATTEMPTS + 1


def test_a_servers_bad_moment_passes(server, tmp_path):
    server.script = [500, 503]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.seen) == 3


def test_a_servers_bad_day_does_not(server, tmp_path):
    server.script = [500] * 99
    with pytest.raises(RuntimeError, match="answers 500"):
        get(server, tmp_path)
    assert len(server.seen) == remote.ATTEMPTS and not left(tmp_path)


def test_pauses_double_and_stop_at_the_time_limit(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(remote, "PAUSE_S", 0.5)
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    server.script = [500] * 99
    with pytest.raises(RuntimeError):
        get(server, tmp_path)
    assert [s for s in slept if s] == [0.5, 1, 2, 4]
    monkeypatch.setattr(remote, "LIMIT_S", -1.0)
    server.seen.clear()
    with pytest.raises(RuntimeError, match="answers 500"):
        remote._fill(remote._Source(f"{server.url}/file.bin", SHA256), tmp_path / "a", made(tmp_path / "b"))
    assert len(server.seen) == 1


def made(path):
    path.write_bytes(b"")
    return path


def test_a_refusal_is_told_at_once(server, tmp_path):
    with pytest.raises(RuntimeError, match=r"/nothing\.bin cannot be fetched: the server answers 404"):
        remote.fetch(f"{server.url}/nothing.bin", SHA256, folder=tmp_path)
    assert len(server.seen) == 1 and not left(tmp_path)


def test_a_cached_file_that_was_damaged_is_fetched_again(server, tmp_path):
    path = get(server, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert get(server, tmp_path).read_bytes() == CONTENT and len(server.seen) == 2


def test_a_part_that_a_killed_process_left_is_no_danger(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(b"something else")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert left(tmp_path) == ["file.bin"]


def test_a_disk_that_fills_up_leaves_nothing(server, tmp_path, monkeypatch):
    def full(file, chunk):
        file.write(chunk[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(remote, "_write", full)
    with pytest.raises(RuntimeError, match=r"the disk is full .*make room, or set KERNELBOOK_DATA"):
        get(server, tmp_path)
    assert not left(tmp_path) and len(server.seen) == 1


def test_a_disk_too_small_is_told_before_the_download(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    monkeypatch.setattr(remote, "_write", lambda file, chunk: pytest.fail("it began to write"))
    with pytest.raises(RuntimeError, match=r"the disk is full \(0.3 MB are missing and 0.0 MB are free\)"):
        get(server, tmp_path)
    assert not left(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_a_right_to_write_is_named(server, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RuntimeError, match="closed cannot be written to"):
        get(server, tmp_path / "closed")


def test_a_folder_that_is_a_file_is_named(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RuntimeError, match=r"file cannot be written to .*KERNELBOOK_DATA"):
        get(server, tmp_path / "file")


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_S", 0.0)
    with socket.socket() as closed:  # bound and not listening: nobody answers there, and nobody else takes the port
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
        with pytest.raises(RuntimeError) as error:
            remote.fetch(url, SHA256, folder=tmp_path)
    assert url in str(error.value) and "no connection" in str(error.value) and str(tmp_path / "file.bin") in str(error.value)
    assert "\n" not in str(error.value) and not left(tmp_path)


def test_without_a_network_the_cached_file_serves(server, tmp_path):
    path = get(server, tmp_path)
    server.script = [500] * 99
    assert get(server, tmp_path) == path


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(file, chunk):
        file.write(chunk)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path)
    assert not left(tmp_path)


@pytest.mark.slow
def test_of_two_processes_one_downloads_and_the_other_waits(server, tmp_path):
    code = "import sys; from kernelbook.data import remote; print(remote.fetch(*sys.argv[1:3], folder=sys.argv[3]))"
    server.wait = 3.0  # longer than the processes' starts lie apart
    command = [sys.executable, "-c", code, f"{server.url}/file.bin", SHA256, str(tmp_path)]
    two = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [p.communicate(timeout=120) for p in two]
    assert answers == [(f"{tmp_path / 'file.bin'}\n", "")] * 2
    assert len(server.seen) == 1 and left(tmp_path) == ["file.bin"]


def test_a_lock_held_too_long_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "LIMIT_S", 0.05)
    with remote._alone(tmp_path / "file.bin"), pytest.raises(RuntimeError, match="held by another process"):
        get(server, tmp_path)


# ---------------------------------------------------------------- formats


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return header + bytes(values.flatten().tolist())


def serve(server, path, content):
    server.files[path] = content
    return hashlib.sha256(content).hexdigest()


def test_mnist_is_read_from_idx_files(server, tmp_path, monkeypatch):
    images = torch.randint(256, (5, 28, 28), generator=run.generator("mnist"), dtype=torch.uint8)
    labels = torch.tensor([3, 1, 4, 1, 5], dtype=torch.uint8)
    table = {n: serve(server, f"/mnist/{n}", gzip.compress(idx(v))) for n, v in (("i.gz", images), ("l.gz", labels))}
    monkeypatch.setattr(remote, "MNIST_URL", f"{server.url}/mnist/")
    monkeypatch.setattr(remote, "MNIST", {"train": {}, "test": table})
    X, y = remote.mnist("test", folder=tmp_path)
    assert torch.equal(X, images) and X.dtype == torch.uint8
    assert torch.equal(y, labels.long()) and y.dtype == torch.int64
    assert left(tmp_path) == ["mnist-i.gz", "mnist-l.gz"]


def archive(members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def records(images, labels):
    return b"".join(bytes([y]) + bytes(x.flatten().tolist()) for x, y in zip(images, labels, strict=True))


def test_cifar_is_read_from_the_binary_archive(server, tmp_path, monkeypatch):
    images = torch.randint(256, (12, 3, 32, 32), generator=run.generator("cifar"), dtype=torch.uint8)
    labels = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 0, 1]
    members = {f"data_batch_{i + 1}.bin": records(images[2 * i : 2 * i + 2], labels[2 * i : 2 * i + 2]) for i in range(5)}
    members["test_batch.bin"] = records(images[10:], labels[10:])
    monkeypatch.setattr(remote, "CIFAR10_SHA256", serve(server, "/c.tar.gz", archive(members)))
    monkeypatch.setattr(remote, "CIFAR10_URL", f"{server.url}/c.tar.gz")
    X, y = remote.cifar10("train", folder=tmp_path)
    assert torch.equal(X, images[:10]) and y.tolist() == labels[:10]
    X, y = remote.cifar10("test", folder=tmp_path)
    assert torch.equal(X, images[10:]) and y.tolist() == labels[10:] and (X.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert left(tmp_path) == ["c.tar.gz"] and len(server.seen) == 1


@pytest.mark.parametrize("load", [remote.mnist, remote.cifar10])
def test_another_split_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match="split='valid': expected 'train' or 'test'"):
        load("valid", folder=tmp_path)


@pytest.mark.parametrize("raw", [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\1x", b"\0\0\x08\x01\0\0", b"\0\0\x08\x01\0\0\0\2x"])
def test_a_damaged_idx_file_is_refused(raw):
    with pytest.raises(ValueError, match=r"f\.idx"):
        remote._idx(raw, "f.idx")


@pytest.mark.parametrize("raw", [b"", bytes(3072), bytes([10]) + bytes(3072)])
def test_a_damaged_cifar_file_is_refused(raw):
    with pytest.raises(ValueError, match=r"b\.bin"):
        remote._cifar(raw, "b.bin")


def test_an_archive_without_the_file_is_refused(tmp_path):
    path = tmp_path / "c.tar.gz"
    path.write_bytes(archive({"a.bin": b"x"}))
    with tarfile.open(path) as tar, pytest.raises(ValueError, match=r"has no file b\.bin"):
        remote._member(tar, "b.bin")


def test_every_known_file_has_a_hash():
    known = [h for files in remote.MNIST.values() for h in files.values()] + [remote.CIFAR10_SHA256]
    assert len(set(known)) == 5 and all(re.fullmatch("[0-9a-f]{64}", h) for h in known)
