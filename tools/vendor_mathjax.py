"""Fetch MathJax's one-file SVG build from npm's package, check its hash, and put it with its licence into assets/mathjax.

Run only to change the version: the files are committed, so that building the book needs no network.
"""

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mathjax@3.2.2"
INTEGRITY = "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
FILES = {"package/es5/tex-svg-full.js": "tex-svg-full.js", "package/LICENSE": "LICENSE"}
TO = Path(__file__).resolve().parents[1] / "assets" / "mathjax"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["npm", "pack", "--json", PACKAGE], cwd=folder, capture_output=True, text=True)
        if packed.returncode:
            print(f"npm could not fetch {PACKAGE}: {packed.stderr.strip()}", file=sys.stderr)
            return 1
        archive = Path(folder, json.loads(packed.stdout)[0]["filename"]).read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != INTEGRITY:
        print(f"{PACKAGE} has the hash {found}; expected {INTEGRITY}. Nothing was written.", file=sys.stderr)
        return 1
    TO.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member, name in FILES.items():
            source = tar.extractfile(member)
            assert source is not None
            (TO / name).write_bytes(source.read())
    (TO / "VERSION").write_text(f"{PACKAGE}\n{INTEGRITY}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
