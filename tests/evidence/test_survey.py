import json
import subprocess
import sys
import time

import pytest
from kernelbook.evidence import survey
from throwaway import Copy, chapter

NOISY = (
    "from kernelbook.evidence import run\nfrom kernelbook.evidence.claims import claim",
    'claim("ntk/far", "A draw lies far below ten.", measured=run.rng("a").normal(), below=10, kind="limit")',
    'claim("ntk/near", "A draw lies just below its mean.", measured=run.rng("b").normal(), below=0, kind="limit")',
    'claim("ntk/absent", "A draw lies above three.", measured=run.rng("c").normal(), above=3, kind="limit", holds=False, '
    'because="It is drawn about zero.")',
    'claim("ntk/fixed", "A number is below one.", measured=0.5, below=1, kind="limit")',
    'claim("ntk/same", "Two ways agree.", measured=0.0, below=1e-9, kind="identity")',
)


def record(measured, interval=None, **more):
    return (
        dict(kind="limit", bound={"below": 1.0}, verdict="holds", measured=measured, interval=interval, met=True, recorded=None)
        | more
    )


def test_margin_is_counted_in_standard_deviations_of_the_deciding_end():
    ends = [[0.0, 0.4], [0.0, 0.5], [0.0, 0.6]]
    assert survey.margin(ends, (-float("inf"), 1.0)) == pytest.approx(5.0)
    assert survey.margin([[0.5, 0.5]] * 3, (-float("inf"), 1.0)) is None
    assert survey.margin([[0.4, 0.4], [0.5, 0.5], [0.6, 0.6]], (0.2, 1.0)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([record(0.1), record(0.12), record(0.11)], []),
        ([record(0.1), record(0.7), record(0.3)], ["margin"]),
        ([record(0.1), record(0.1)], ["the same value on every seed"]),
        ([record(0.1), record(1.2, verdict="fails", met=False)], ["held on 50%", "margin"]),
        ([record(0.1, kind="identity")] * 2, []),
        ([record(2.0, verdict="does not hold here", met=False), record(2.1, verdict="does not hold here", met=False)], []),
        ([record(0.1, verdict="does not hold here"), record(2.1, verdict="does not hold here", met=False)], ["said not to hold"]),
    ],
)
def test_defects_of_a_claim_are_named(rows, found):
    named = survey.defects(survey.summarize(rows), "ntk/x")
    assert len(named) == len(found) and all(f in n for f, n in zip(found, named, strict=True))


@pytest.mark.slow
def test_a_survey_runs_fresh_seeds_and_keeps_the_table(tmp_path):
    copy = Copy(tmp_path)
    copy.write("width/tangent", chapter(*NOISY))
    done = copy.python("-m", "kernelbook.evidence.survey", "survey", "width/tangent", "--seeds", "6")
    assert "6 of 6 runs" in done.stdout and done.returncode == 1
    assert not (tmp_path / "book/data/survey").exists()  # six seeds are no record
    wrong = [line for line in done.stdout.splitlines() if line.startswith("ntk/") and ": " in line]
    assert {line.split(":")[0] for line in wrong} == {"ntk/near", "ntk/fixed"}


def dask(copy, program, *options):
    """A scheduler or a worker as a process of its own, in the copy's checkout."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *options]
    return subprocess.Popen(command, cwd=copy.root, env=copy.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(path):
    for _ in range(300):
        if path.exists() and path.read_text().strip():
            return json.loads(path.read_text())
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.slow
def test_a_worker_killed_half_way_loses_no_run_and_counts_none_twice(tmp_path):
    copy = Copy(tmp_path)
    copy.write("width/tangent", chapter(NOISY[0], "import time\ntime.sleep(2)", NOISY[1]))
    file = tmp_path / "scheduler.json"
    started = [dask(copy, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))]
    try:
        address = wait_for(file)["address"]
        worker = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        started += [dask(copy, "worker", address, *worker) for _ in range(2)]
        command = [sys.executable, "-m", "kernelbook.evidence.survey", "survey", "--seeds", "6", "--scheduler", address]
        survey_run = subprocess.Popen(command, cwd=copy.root, env=copy.environment, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in survey_run.stdout:
            lines.append(line)
            if line.startswith("2 of 6 runs"):
                started[1].kill()  # in the middle of its next run
        assert survey_run.wait() == 0, "".join(lines)
    finally:
        for process in started:
            process.kill()
            process.wait()
    progress = [line for line in lines if " of 6 runs" in line]
    assert [line.split(" ")[0] for line in progress] == list("123456")
    assert sorted(line.split("seed ")[1].strip() for line in progress) == list("123456")
    assert any("width/tangent, 6 seeds" in line for line in lines)
    assert any(line.startswith("ntk/far") and " 100% " in line for line in lines)


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_named(tmp_path):
    copy = Copy(tmp_path)
    copy.write("width/tangent", chapter(*NOISY[:2]))
    for address, words in (
        ("tcp://127.0.0.1:9", "nobody answers there"),
        ("127.0.0.1:8786", "expected an address such as tcp://"),
    ):
        done = copy.python("-m", "kernelbook.evidence.survey", "survey", "--seeds", "2", "--scheduler", address)
        assert done.returncode == 2 and f"scheduler='{address}'" in done.stdout and words in done.stdout


@pytest.mark.slow
def test_run_prints_the_claims_of_one_chapter(tmp_path):
    copy = Copy(tmp_path)
    copy.write("width/tangent", chapter(*NOISY[:2]))
    done = copy.python("-m", "kernelbook.evidence.survey", "run", "width/tangent")
    assert done.returncode == 0 and "✓ ntk/far (holds)" in done.stdout
    assert json.loads((tmp_path / "out/executed/width/tangent.json").read_text())["core_seconds"] > 0
    unknown = copy.python("-m", "kernelbook.evidence.survey", "run", "width/nothing")
    assert unknown.returncode == 2 and "C='width/nothing': no such chapter; there are width/tangent" in unknown.stdout
    empty = copy.python("-m", "kernelbook.evidence.survey", "run", "")
    assert empty.returncode == 2 and "name a chapter" in empty.stdout


@pytest.mark.parametrize("what, longest", [("run", survey.execution.LIMIT_S), ("record", survey.RECORD_LIMIT_S)])
def test_recording_may_take_longer_than_a_run(what, longest, monkeypatch):
    limits = []

    def stop(path, settings, limit, force):
        limits.append(limit)
        raise survey.execution.ChapterFailed("here", 1, "stopped")

    monkeypatch.setattr(survey.execution, "bring_up_to_date", stop)
    assert survey.main([what, "width/tangent"]) == 1 and limits == [longest] and survey.RECORD_LIMIT_S > survey.execution.LIMIT_S
