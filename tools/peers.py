"""Install the peers into .venv-peers, each by itself, and hold the book against those that could be had (`make peers`)."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv-peers"


def prepare() -> Path:
    """An environment that sees the book's packages behind its own.  Returns its Python."""
    python = HOME / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(HOME, with_pip=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    )
    (Path(own.stdout.strip()) / "book.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'lib'}\n", "utf8")
    return python


def install(python: Path) -> list[str]:
    """Install every peer.  Returns those that could not be had."""
    lines = (ROOT / "requirements-peers.txt").read_text("utf8").splitlines()
    missing = []
    for peer in (line.split("#")[0].strip() for line in lines):
        if not peer:
            continue
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            missing.append(peer)
            print(f"{peer} could not be installed, and is skipped: {(done.stderr.strip().splitlines() or ['?'])[-1]}", flush=True)
    return missing


def main() -> int:
    python = prepare()
    missing = install(python)
    command = [python, "-m", "pytest", "-q", "-rs", "--no-header", "-p", "no:cacheprovider", "tests/peers"]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"KERNELBOOK_PEERS": "1"}).returncode
    if missing:
        print(f"skipped, since they could not be installed: {', '.join(missing)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
