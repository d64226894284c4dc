"""Make .venv and install the pinned requirements into it.  Written for any Python, so that a too-old one gets a sentence."""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
READY = os.path.join(VENV, ".ready")
INPUTS = ("requirements.txt", "requirements.lock", "pyproject.toml")


def stop(sentence):
    sys.stderr.write(sentence + "\n")
    sys.exit(1)


def key():
    """What the environment is made from; a change means to install again."""
    h = hashlib.sha256(sys.version.encode())
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as f:
            h.update(f.read())
    return h.hexdigest()


def run(command, sentence):
    """Run a command quietly; where it fails, its last lines and one sentence that says what to do."""
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    output = p.communicate()[0]
    if p.returncode:
        tail = output.strip().splitlines()[-12:]
        no_network = any(
            w in output for w in ("NewConnectionError", "Name or service", "Temporary failure", "timed out", "Network is")
        )
        no_network = no_network or ("No matching distribution" in output and "from versions: none" in output)
        sys.stderr.write("\n".join(tail) + "\n")
        stop(
            "No package index could be reached: connect this machine to the network (or set pip's index), then run make again."
            if no_network
            else sentence
        )


def python_in(venv):
    return os.path.join(venv, "Scripts" if os.name == "nt" else "bin", "python")


def main():
    if sys.version_info < (3, 11):
        have = ".".join(str(n) for n in sys.version_info[:3])
        stop("Python %s is too old for this book: install Python 3.11 or newer, then run make again (or make PYTHON=...)." % have)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            "This Python has no venv module: install it (on Debian or Ubuntu: apt install python%d.%d-venv), then run make again."
            % sys.version_info[:2]
        )
    if os.path.exists(READY):
        with open(READY) as f:
            if f.read() == key():
                os.utime(READY, None)
                return
    if shutil.disk_usage(ROOT).free < 4e9:
        stop("Less than 4 GB of disk are free here: the environment needs about 3 GB; make room, then run make again.")
    python = python_in(VENV)
    print("Setting up .venv with the book's pinned packages (once; a few minutes)...")
    sys.stdout.flush()
    run([sys.executable, "-m", "venv", VENV], "The virtual environment could not be made: remove .venv, then run make again.")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["-r", os.path.join(ROOT, "requirements.txt"), "-c", os.path.join(ROOT, "requirements.lock")]
    here = os.getcwd()
    os.chdir(ROOT)
    run(pip, "The pinned packages could not be installed: read the lines above, mend what they name, then run make again.")
    os.chdir(here)
    # last, and whole: an interrupted set-up starts again where it was
    with open(READY + ".part", "w") as f:
        f.write(key())
    os.rename(READY + ".part", READY)


if __name__ == "__main__":
    main()
