"""The benchmark's arithmetic, its records, and the ceilings they are held against."""

import dataclasses
import json

import pytest
import torch
from kernelbook.gpu import benchmark, check, registry
from kernelbook.gpu.cards import CARDS, card_of
from kernelbook.gpu.registry import Bench, Work

ADD = registry.load()["add"]
H200 = CARDS["NVIDIA H200"]


def small(**peers):
    def make(generator, dtype, device):
        return {k: torch.randn(1000, generator=generator, dtype=dtype) for k in "xy"}

    bench = Bench("a thousand", make, torch.float32, lambda i: Work(bytes=12000, flops=1000), peers, devices=("cpu",))
    return dataclasses.replace(ADD, benches=(bench,))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELBOOK_ROOT", str(tmp_path))
    return tmp_path / "book" / "data" / "gpu"


def test_roofline_is_the_slowest_resource():
    work = Work(bytes=4.8e12, flops=67e12, unit="fp32")
    assert H200.floor(work) == pytest.approx(1) and H200.ridge("fp32") == pytest.approx(67 / 4.8)
    assert H200.bound(Work(bytes=1e9, flops=1e9)) == "memory"
    assert H200.bound(Work(bytes=1e9, flops=1e12)) == "fp32"
    assert H200.bound(Work(bytes=1.0, flops=1e12, special=1e12)) == "special"
    assert Work(bytes=12, flops=1).intensity == pytest.approx(1 / 12)


def test_every_card_has_its_sources_and_levels_in_order():
    for card in CARDS.values():
        assert card.sources and [x.size for x in card.levels[2:]] == sorted(x.size for x in card.levels[2:])
        assert card.bandwidth and card.l2 < card.levels[-1].size


@pytest.mark.parametrize("device, name", [("NVIDIA H200", "NVIDIA H200"), ("NVIDIA H200 NVL", "NVIDIA H200"), ("Tesla T4", None)])
def test_a_device_finds_its_card(device, name):
    assert card_of(device) == CARDS.get(name)


def test_ratios_are_against_the_same_run_and_a_missing_peer_is_named(monkeypatch):
    def missing(inputs):
        raise ImportError("no module", name="pykeops")

    def torchs(inputs):
        return lambda: inputs["x"] + inputs["y"]

    medians = iter([(0.002, 9), (0.006, 9)])
    monkeypatch.setattr(benchmark, "seconds_of", lambda calls, device: next(medians))
    kernel = small(torch=torchs, keops=missing)
    row = benchmark.measure(kernel, kernel.benches[0], "cpu")
    assert row["peers"]["torch"] == {"seconds": 0.006, "ratio": pytest.approx(3), "differs": 0.0}
    assert row["peers"]["keops"] == {"skipped": "not installed: pykeops"}
    assert "2 ms; 3.00x torch, keops skipped (not installed: pykeops)" in benchmark.line(row)


def test_the_median_is_of_at_least_seven_calls_after_one_that_is_not_timed(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock) ** 2)
    made = []
    seconds, calls = benchmark.seconds_of([lambda: made.append("a"), lambda: made.append("b")], "cpu")
    assert calls == 7 and len(made) == 9 and seconds == 13  # the differences of squares 1, 5, 9, 13, ...


def test_a_peer_that_computes_something_else_shows():
    kernel = small(other=lambda inputs: lambda: inputs["x"])
    assert benchmark.measure(kernel, kernel.benches[0], "cpu")["peers"]["other"]["differs"] > 0.1


def test_a_record_is_read_back_and_knows_whether_it_is_current(elsewhere, monkeypatch):
    record = benchmark.run([small(torch=lambda inputs: lambda: inputs["x"] + inputs["y"])], "cpu")
    benchmark.write(record, keep=False)
    assert benchmark.records() == [record] and record["rows"][0]["dtype"] == "float32"
    row = record["rows"][0]
    assert benchmark.state(row) == "current"
    assert benchmark.state(row | {"source": "older"}) == "changed since" and benchmark.state(row | {"kernel": "no"}) == "gone"


def test_a_second_run_of_some_kernels_keeps_the_others(elsewhere):
    first = benchmark.run([small()], "cpu")
    other = json.loads(json.dumps(first).replace('"add"', '"blur"'))
    benchmark.write(first, keep=False)
    path = benchmark.write(other, keep=True)
    assert [r["kernel"] for r in json.loads(path.read_text())["rows"]] == ["add", "blur"]
    benchmark.write(first, keep=True)
    assert len(json.loads(path.read_text())["rows"]) == 2 and not list(elsewhere.glob("*.new"))


def test_a_wrong_kernel_is_not_timed(monkeypatch, capsys):
    def refuse(*_):
        raise check.WrongKernel("add: error")

    monkeypatch.setattr(benchmark, "verify", refuse)
    monkeypatch.setattr(benchmark, "machine", lambda device: {"device": "a GPU"})
    kernel = small()
    kernel = dataclasses.replace(kernel, benches=(dataclasses.replace(kernel.benches[0], devices=("cuda",)),))
    record = benchmark.run([kernel], "cuda")
    assert record["rows"] == [] and record["wrong"] == {"add": "add: error"}
    assert "WRONG  add: error" in capsys.readouterr().out


def test_copies_of_the_input_fill_the_cache():
    inputs = benchmark._rotating(small().benches[0], "cpu", None)
    assert len(inputs) == len({i["x"].data_ptr() for i in inputs}) == benchmark.COPIES["cpu"]
    assert all(torch.equal(i["x"], inputs[0]["x"]) for i in inputs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(capsys):
    assert benchmark.main([]) == 1
    assert "No GPU is here" in capsys.readouterr().err


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="no kernel is called 'ad'"):
        benchmark.main(["ad", "--device", "cpu", "--dry"])
