import subprocess
import sys

import numpy as np
import pytest
import torch
from kernelbook.evidence import run


def in_a_process(code, **environment):
    import os

    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


def test_seeds_are_distinct_and_another_name_gives_others():
    first, second = run.seeds(50), run.seeds(50, "second")
    assert len(set(first) | set(second)) == 100


def test_seeds_begin_with_the_same_ones_when_more_are_asked_for():
    assert run.seeds(9)[:4] == run.seeds(4)


@pytest.mark.parametrize("n", [0, -1, 2.5, "3"])
def test_seeds_refuse_what_is_no_count(n):
    with pytest.raises(ValueError, match=r"n=.*positive whole number"):
        run.seeds(n)


def test_one_name_gives_one_stream_and_another_name_another():
    draw = lambda *a, **k: torch.randn(4, generator=run.generator(*a, **k))  # noqa: E731
    assert torch.equal(draw("weights"), draw("weights"))
    assert not torch.equal(draw("weights"), draw("data"))
    assert not torch.equal(draw("weights"), draw("weights", seed=run.seeds(1)[0]))
    assert not np.array_equal(run.rng("weights").normal(size=4), run.rng("data").normal(size=4))


def test_the_environment_seed_changes_every_stream():
    code = "from kernelbook.evidence import run; print(run.seeds(2), run.rng('a').integers(10**9))"
    outputs = {in_a_process(code, KERNELBOOK_SEED=s).stdout for s in ("0", "1", "2")}
    assert len(outputs) == 3


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("KERNELBOOK_SEED", "-1", "whole number"),
        ("KERNELBOOK_SEED", "x", "whole number"),
        ("KERNELBOOK_SCALE", "huge", "quick, full"),
        ("KERNELBOOK_DEVICE", "tpu", "'cpu' or 'cuda'"),
    ],
)
def test_a_bad_environment_is_named(variable, value, expected):
    result = in_a_process("import kernelbook.evidence.run", **{variable: value})
    assert result.returncode != 0
    assert f"{variable}={value!r}" in result.stderr and expected in result.stderr


def test_pick_follows_the_scale():
    code = "from kernelbook.evidence import run; print(run.pick(quick=1, full=2))"
    assert in_a_process(code).stdout.strip() == "1"
    assert in_a_process(code, KERNELBOOK_SCALE="full").stdout.strip() == "2"
    small = "from kernelbook.evidence import run; print(run.pick(quick=1, full=2), run.pick(quick=1, full=2, smoke=3))"
    assert in_a_process(small, KERNELBOOK_SCALE="full", KERNELBOOK_SMOKE="1").stdout.split() == ["1", "3"]
    assert in_a_process(small, KERNELBOOK_SMOKE="1").stdout.split() == ["1", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")
def test_start_refuses_to_come_after_triton():
    code = "import triton; from kernelbook.evidence import run; run.device = __import__('torch').device('cpu'); run.start(True)"
    result = in_a_process(code, TRITON_INTERPRET="0")
    assert "restart the kernel" in result.stderr


def test_start_chooses_the_interpreter_where_there_is_no_gpu():
    code = (
        "import os; os.environ.pop('TRITON_INTERPRET', None); from kernelbook.evidence import run; "
        "run.start(interpret=True); print(os.environ.get('TRITON_INTERPRET'))"
    )
    assert in_a_process(code, KERNELBOOK_DEVICE="cpu").stdout.strip() == "1"
