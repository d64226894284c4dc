"""The eleven bad days, each ending in one clear sentence that says what to do, and leaving nothing half-written.

Here: no GPU, no disk, a port in use.  Where the others are shown:
no network: test_setup.py and data/test_remote.py; an interrupted download, a wrong checksum: data/test_remote.py;
a corrupt output, a kernel killed half way, two builds at once: evidence/test_execution.py; a Python too old: test_setup.py;
a bad argument: in every module's tests.
"""

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernelbook.evidence import execution, house
from kernelbook.pages import build
from throwaway import Copy, chapter

NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_where_one_is_asked_for():
    env = {**os.environ, "KERNELBOOK_DEVICE": "cuda"}
    done = subprocess.run([sys.executable, "-c", "import kernelbook.evidence.run"], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ValueError: KERNELBOOK_DEVICE='cuda': torch sees no CUDA device here; unset it to run on the CPU"


def test_no_disk_leaves_the_former_file_and_no_part(tmp_path, monkeypatch):
    target = tmp_path / "ledger.json"
    house.write_whole(target, "good")

    def half(self, data):
        with open(self, "wb") as f:
            f.write(data[:2])
        raise NO_ROOM

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(house.DiskFull, match=r"The disk is full: ledger.json was not written.*Make room.*again\.$"):
        house.write_whole(target, "better")
    assert target.read_text() == "good" and [p.name for p in tmp_path.iterdir()] == ["ledger.json"]


@pytest.mark.slow
def test_no_disk_while_a_chapter_runs_is_a_sentence_and_no_traceback(tmp_path):
    copy = Copy(tmp_path)
    copy.write("width/tangent", chapter("print(1)"))
    full = (
        "import errno, pathlib\ndef w(self, data):\n    raise OSError(errno.ENOSPC, 'no space')\npathlib.Path.write_bytes = w\n"
    )
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug/fulldisk.py").write_text(full)
    done = copy.run_chapters("-p", "fulldisk", PYTHONPATH=str(tmp_path / "plug"))
    assert done.returncode == 1 and "The disk is full: tangent.ipynb was not written" in done.stdout
    assert "Traceback" not in done.stdout and "OSError" not in done.stdout
    assert not list((tmp_path / "out").rglob("*.part"))


def test_no_disk_while_the_site_is_published_keeps_the_former_site(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELBOOK_ROOT", str(tmp_path))
    site = execution.settings_from_environment().folder.parent / "site"
    site.mkdir(parents=True)
    (site / "index.html").write_text("former")

    def no_room(*a):
        raise NO_ROOM

    monkeypatch.setattr(build, "pages", lambda *a, **k: True)
    monkeypatch.setattr(build, "front_door", no_room)
    with pytest.raises(SystemExit, match="The disk is full: the site was not published, and the former site is untouched"):
        build.main()
    assert (site / "index.html").read_text() == "former"


@pytest.mark.slow
def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--ServerApp.port_retries=0",
        ]
        env = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert re.search(rf"could not be started because port {port} is not available", done.stderr)
