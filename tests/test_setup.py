"""The first minute on a fresh machine: what `make` says when something is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
AS_MAIN = "import runpy, sys; {}; sys.argv = ['setup.py']; runpy.run_path('tools/setup.py', run_name='__main__')"


@pytest.fixture
def bare(tmp_path):
    """A checkout that asks for one small package."""
    (tmp_path / "tools").mkdir()
    shutil.copy(HOUSE / "tools/setup.py", tmp_path / "tools/setup.py")
    (tmp_path / "requirements.txt").write_text("kernelbook-has-no-such-package==1\n")
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


def setup(folder, trick="0", **environment):
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", AS_MAIN.format(trick)], cwd=folder, env=env, capture_output=True, text=True)


def one_sentence(done, *words):
    """It failed with one sentence that holds these words, and no traceback."""
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert all(w in last for w in words) and last.endswith("."), done.stderr


def test_a_python_too_old_is_told_what_to_install(bare):
    done = setup(bare, "sys.version_info = (3, 10, 13, 'final', 0)")
    one_sentence(done, "Python 3.10.13 is too old", "install Python 3.11 or newer", "run make again")
    assert len(done.stderr.splitlines()) == 1 and not (bare / ".venv").exists()


def test_a_missing_venv_module_is_told_which_package_to_install(bare):
    done = setup(bare, "sys.modules['ensurepip'] = None")
    one_sentence(done, "no venv module", f"python3.{sys.version_info[1]}-venv", "run make again")
    assert not (bare / ".venv").exists()


@pytest.mark.slow
def test_no_network_is_told_in_a_sentence_and_leaves_no_ready_mark(bare):
    # a port of this machine where nobody listens
    offline = dict(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull)
    done = setup(bare, PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="", **offline)
    one_sentence(done, "No package index could be reached", "run make again")
    assert not (bare / ".venv/.ready").exists()


@pytest.mark.slow
def test_an_environment_that_is_ready_is_left_alone(bare):
    (bare / "requirements.txt").write_text("")
    assert setup(bare).returncode == 0
    mark = (bare / ".venv/.ready").read_text()
    again = setup(bare)
    assert again.returncode == 0 and not again.stdout
    (bare / "requirements.lock").write_text("# changed\n")
    assert "Setting up" in setup(bare).stdout
    assert (bare / ".venv/.ready").read_text() != mark


def test_make_alone_lists_every_command():
    listed = subprocess.run(["make"], cwd=HOUSE, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (HOUSE / "Makefile").read_text(), re.M)[1].split()
    assert all(re.search(rf"^  {t} ", listed, re.M) for t in targets)


def test_readme_reaches_its_first_command_within_a_screen():
    lines = (HOUSE / "README.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("make book"))
    assert first <= 24 and lines[first + 1].startswith("make test")


def test_ci_runs_make_test_and_nothing_else():
    lines = [line for line in (HOUSE / ".ci/run").read_text().splitlines() if line and not line.startswith(("#", "set "))]
    assert lines[-1] == "exec make test" and all(line.startswith(("cd ", "exec ")) for line in lines)


def test_the_lock_pins_everything_exactly():
    lock = (HOUSE / "requirements.lock").read_text()
    pins = [line.split(";")[0].strip() for line in lock.splitlines() if line and not line.startswith("#")]
    assert len(pins) > 100 and all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s]+", p) for p in pins)
    wanted = re.findall(r"^([a-z0-9-]+)==(\S+?);?(?:\s|$)", (HOUSE / "requirements.txt").read_text(), re.M)
    assert len(wanted) > 20 and all(f"{n}=={v}" in pins for n, v in wanted)


def test_vendored_files_are_whole():
    import hashlib

    mathjax = (HOUSE / "assets/mathjax/tex-svg-full.js").read_bytes()
    assert hashlib.sha256(mathjax).hexdigest() == "a4354ff94fd868aea0cc6eaaa79a57fda0588646fc46ee3700a349ee0a11cbe6"
    assert "Apache License" in (HOUSE / "assets/mathjax/LICENSE").read_text()
