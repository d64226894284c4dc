"""Every registered kernel: right in the interpreter (or on a GPU), its mutants dead, compiled for GPUs that are not here."""

import json
import os
import subprocess
import sys

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu import check, mutants, registry

linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")
slow = pytest.mark.slow
KERNELS = registry.load()
CASES = [(k, c, d) for k in KERNELS.values() for c, d in k.checks()]


def of(kernel, case=None):
    return run.generator(f"{kernel.name}/{case.name}" if case else kernel.name)


@linux
@pytest.mark.parametrize("kernel, case, dtype", CASES, ids=[f"{k.name}-{c.name}-{d}" for k, c, d in CASES])
def test_kernel_is_right(kernel, case, dtype):
    check.check(kernel, case, dtype, of(kernel, case), run.device)


@linux
@slow
@pytest.mark.skipif(run.device.type == "cuda", reason="a process that has used CUDA cannot be forked")
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_every_mutant_dies(kernel):
    check.check_all(kernel, of(kernel))
    fates = mutants.fates(kernel, lambda: check.check_all(kernel, of(kernel)))
    print(*(f"{f.mutant.name}  |  {f.how}" for f in fates), sep="\n")
    lived = {f.mutant.name for f in fates if not f.killed}
    assert len(fates) >= 5
    assert lived == set(kernel.equivalent), "lived, or is declared equivalent and is not"


@linux
@slow
def test_every_target_compiles_without_a_gpu(tmp_path):
    env = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "kernelbook.gpu.check", "compile", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == sum(len(k.targets) * len(check.ARCHITECTURES) for k in KERNELS.values())
    assert {r["name"] for r in rows} == set(KERNELS)
    assert all(0 < r["registers"] <= 255 and r["ptx"] for r in rows)
    spilling = [f"{r['kernel']} {r['constexprs']} sm_{r['architecture']}" for r in rows if r["stack"] > 512]
    assert not spilling, "more than 512 B of spilled registers"


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_declarations_are_whole(kernel):
    assert all(b.peers for b in kernel.benches) and kernel.benches, "a benchmark without a peer says nothing"
    assert len({c.name for c in kernel.cases}) == len(kernel.cases)
    for case in kernel.cases:
        inputs = case.make(of(kernel, case), torch.float64)
        assert set(case.gradients) <= set(inputs)


def test_an_unknown_name_and_a_second_owner_are_refused():
    with pytest.raises(ValueError, match="no kernel is called 'ad': expected one of add"):
        registry.named(["ad"])
    stolen = registry.Kernel(**{**vars(KERNELS["add"]), "launcher": torch.add})
    with pytest.raises(ValueError, match="has registered it already"):
        registry.register(stolen)
    with pytest.raises(ValueError, match="cases of kernel 'new' is empty"):
        registry.register(registry.Kernel(**{**vars(KERNELS["add"]), "name": "new", "cases": ()}))
    assert registry.KERNELS["add"] is KERNELS["add"]


def test_source_hash_is_of_what_the_kernel_does():
    hashes = {k.source_hash for k in KERNELS.values()}
    assert len(hashes) == len({k.kernels for k in KERNELS.values()})
    assert KERNELS["add"].source_hash == KERNELS["add"].source_hash


@pytest.mark.parametrize("what", ["forward", "mutants", "compile"])
@linux
@slow
def test_the_command_says_what_it_did(what):
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-m", "kernelbook.gpu.check", what, "add"], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "add" in done.stdout
    assert {"forward": "8 checks", "mutants": "9 of 9 killed, 0 equivalent", "compile": "registers"}[what] in done.stdout
