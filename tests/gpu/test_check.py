"""The judges are judged: wrong launchers are caught, each in the way it is wrong, and mutants are what they say."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu import check, launch, mutants
from kernelbook.gpu.add import add, add_kernel
from kernelbook.gpu.matmul import matmul_kernel
from kernelbook.gpu.registry import KERNELS, Case
from kernelbook.gpu.softmax import softmax_kernel
from kernelbook.gpu.trace import traced

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only"),
    pytest.mark.skipif(run.device.type == "cuda", reason="these look into the interpreter"),
]


def judged(launcher, **changes):
    kernel = dataclasses.replace(KERNELS["add"], launcher=launcher, **changes)
    check.check(kernel, kernel.cases[0], torch.float64, run.generator("judged"))


def wrong_dtype(x, y, **_):
    return (x + y).float()


def wrong_shape(x, y, **_):
    return (x + y)[:-1]


def never_written(x, y, **_):
    return torch.empty_like(x)


def spoils_its_input(x, y, **_):
    x += y
    return x.clone()


def writes_past_the_end(x, y, **_):
    z = torch.empty_like(x)
    z.set_(z.untyped_storage(), z.storage_offset(), (len(x) + 1,)).fill_(0)
    return x + y


@pytest.mark.parametrize(
    "launcher, said",
    [
        (wrong_dtype, "gave torch.float32"),
        (wrong_shape, r"shape \(36,\) where \(37,\) was expected"),
        (never_written, "37 of 37 are nan and should not be"),
        (spoils_its_input, "changed its input x"),
        (writes_past_the_end, "wrote after an output"),
        (lambda x, y, **_: x - y, "error"),
        (lambda x, y, **_: (x + y) * (1 + 1e-14), "4e-16 allowed"),
    ],
)
def test_a_wrong_launcher_is_caught(launcher, said):
    judged(lambda x, y, **_: x + y)
    with pytest.raises(check.WrongKernel, match=said):
        judged(launcher)


@pytest.mark.parametrize(
    "launcher, said",
    [
        (lambda x, y, **_: (x + y).round().long() + (torch.arange(37) == 36), "1 of 37 integers differ"),
        (lambda x, y, **_: (x + y).round().int(), "gave torch.int32 where torch.int64 was expected"),
    ],
)
def test_integers_have_no_tolerance(launcher, said):
    def rounded(x, y, **_):
        return (x + y).round().long()

    judged(rounded, exact=rounded)
    with pytest.raises(check.WrongKernel, match=said):
        judged(launcher, exact=rounded)


def test_a_wrong_gradient_is_caught():
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, upstream):
            return upstream / 2, upstream

    case = Case("with gradients", KERNELS["add"].cases[0].make, gradients=("x", "y"))
    right = dataclasses.replace(KERNELS["add"], launcher=lambda x, y, **_: x + y)
    check.check(right, case, torch.float64, run.generator("gradient"))
    wrong = dataclasses.replace(right, launcher=lambda x, y, **_: Halved.apply(x, y))
    with pytest.raises(check.WrongKernel, match="gradient in x: error"):
        check.check(wrong, case, torch.float64, run.generator("gradient"))


def test_traffic_is_counted_by_name():
    x = torch.ones(37)
    with traced() as t:
        add(x, x.clone(), backend="triton", block=16)
    assert t.loads == {"x_ptr": 37, "y_ptr": 37, "z_ptr": 0} and t.stores["z_ptr"] == 37 and t.launches == 1
    assert t.words == 3 * 37


def test_an_address_outside_the_tensors_is_an_error():
    x = torch.ones(40)
    with pytest.raises(Exception, match="read 11 words outside the kernel's tensors"), traced():
        launch.launch(add_kernel, (3,), x[:37], x[:37].clone(), torch.empty(48), 48, BLOCK=16)


def test_traffic_outside_the_interpreter_is_refused():
    program = "from kernelbook.gpu.trace import traced\nwith traced(): pass"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"TRITON_INTERPRET": "0"})
    assert "RuntimeError: traced() needs Triton's interpreter" in done.stderr


def test_mutants_are_one_mistake_each_and_bear_different_names():
    made = [m for f in (add_kernel, softmax_kernel, matmul_kernel) for m in mutants.mutants_of(f)]
    assert len({m.name for m in made}) == len(made) > 40
    assert len({(m.replaces, m.source) for m in made}) == len(made), "two mutants are the same"
    mistakes = {m.mistake.split(" (")[0] for m in made}
    named = {"mask dropped", "offsets off by one", "wrong value beyond the end", "accumulator starts at 1", "stride swapped"}
    assert named | {"factor dropped", "sign wrong", "comparison off by one", "last turn of the loop missed"} <= mistakes
    assert all(compile(m.source, "mutant", "exec") for m in made)


def test_the_kernel_itself_is_back_after_a_mutant():
    x = torch.arange(5.0)
    mutant = next(m for m in mutants.mutants_of(add_kernel) if m.mistake == "sign wrong" and "load" in m.name)
    with mutants.standing_in(mutant):
        assert torch.equal(add(x, x.clone(), backend="triton"), torch.zeros(5))
    assert torch.equal(add(x, x.clone(), backend="triton"), 2 * x)


def test_a_test_that_kills_the_kernel_itself_judges_no_mutant():
    def refuse():
        raise AssertionError("no kernel is good enough")

    with pytest.raises(ValueError, match="check kills kernel 'add' itself: AssertionError: no kernel"):
        mutants.fates(KERNELS["add"], refuse)


def crash():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def hang():
    import time

    time.sleep(60)


@pytest.mark.parametrize("check_, how", [(crash, "crashed (SIGSEGV)"), (hang, "no end within 1 s"), (lambda: None, "lived")])
def test_a_mutant_that_crashes_or_hangs_is_dead_and_one_that_passes_lives(monkeypatch, check_, how):
    monkeypatch.setattr(mutants, "SECONDS", 1)
    fate = mutants.fate(mutants.mutants_of(add_kernel)[0], check_)
    assert fate.how == how and fate.killed == (how != "lived")
