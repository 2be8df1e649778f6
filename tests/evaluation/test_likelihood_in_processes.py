"""−log p(x) in two processes is that of one to the last bit; errors, kills and other numbers of processes are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import vae_flows
from vae_flows.evaluation.finished import count_finished
from vae_flows.evaluation.likelihood import FILE

SCRIPT = """
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import vae_flows as vf
import vae_flows.training as training
from vae_flows.data import DataSet, Images
from vae_flows.errors import CheckpointError, IntegrationError, VAEFlowsError
from vae_flows.evaluation import estimate_likelihood, evaluate
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.processes import is_main_process

SHAPE = (1, 4, 4)
FIRST = is_main_process()
FIELDS = ("log_bounds", "distortion", "rate", "effective_sample_size")
TWO = {"devices": 2}


class Told(Exception):
    pass


class Unportable(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def make(flow="planar", seed=0, **options):
    torch.manual_seed(seed)
    posterior = vf.AmortizedPosterior(2, 6, flow=flow, **options)
    return vf.VAE(MLPEncoder(SHAPE, (8,), 6), MLPDecoder(2, SHAPE, (8,)), posterior, BernoulliLikelihood())


def images(count, dynamic=False):
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(256, (count, 16 if dynamic else 2), generator=generator, dtype=torch.uint8)
    return Images(levels, SHAPE, packed=not dynamic, dynamic_binarization=dynamic)


def estimate(vae, data, **options):
    return estimate_likelihood(vae, data, **{"importance_samples": 30, "particles": (5,), "batch_size": 20, **options})


def same(a, b):
    return a.particles == b.particles and all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def error_of(call, kind=VAEFlowsError):
    try:
        call()
    except kind as error:
        return f"{type(error).__name__}: {error}"
    return None


def spoil(vae, error):
    "Let the second process fail in its first batch."
    if not FIRST:
        def fail(*_):
            raise error
        vae.decoder.register_forward_pre_hook(fail)
    return vae


def stop_after(images):
    def progress(step):
        if step.images_done >= images:
            raise Told("stopped")
    return progress


def main(folder):
    vae, data, told = make(), images(50), []
    shared = estimate(vae, data, progress=told.append, **TWO)
    whole = estimate(vae, data)  # one process among several
    report = {
        "same": same(shared, whole),
        "seconds": shared.seconds,
        "told": [step.images_done for step in told],
        "other": not same(whole, estimate(vae, data, seed=1, **TWO)),
    }
    for name, other, examples in (
        ("one batch", vae, images(7)),
        ("dynamic", vae, images(50, dynamic=True)),
        ("ffjord", make("ffjord", hidden_dims=(6,), amortization="bias"), data),
    ):
        report[name] = same(estimate(other, examples, **TWO), estimate(other, examples))

    counted, calls = make(), []
    bound = counted.importance_weighted_bound
    counted.importance_weighted_bound = lambda *args, **options: calls.append(1) or bound(*args, **options)
    tested = evaluate(counted, data, batch_size=20, importance_samples=30, devices=2)
    report["batches of the test"] = len(calls)
    one = evaluate(vae, data, batch_size=20, importance_samples=30)
    report["test"] = replace(tested, seconds=0.0) == replace(one, seconds=0.0)

    kept = {"folder": folder / "of one"}
    if FIRST:
        report["one is stopped"] = error_of(lambda: estimate(vae, data, progress=stop_after(20), **kept), Told)
    told.clear()
    report["goes on in two"] = same(estimate(vae, data, progress=told.append, **kept, **TWO), whole)
    report["told then"] = [step.images_done for step in told]
    kept = {"folder": folder / "of two"}
    report["two are stopped"] = error_of(lambda: estimate(vae, data, progress=stop_after(40), **kept, **TWO), Told)
    told.clear()
    if FIRST:
        report["goes on in one"] = same(estimate(vae, data, progress=told.append, **kept), whole)
        report["told at last"] = [step.images_done for step in told]
    report["another seed"] = error_of(lambda: estimate(vae, data, seed=2, **kept, **TWO), CheckpointError)

    failure = IntegrationError("too stiff", t=0.5, step_size=1e-9, evaluations=7)
    report["error"] = error_of(lambda: estimate(spoil(make(), failure), data, **TWO), IntegrationError)
    spoiled = spoil(make(), Unportable("odd", 2))
    report["odd error"] = error_of(lambda: estimate(spoiled, data, **TWO), Exception)
    report["models"] = error_of(lambda: estimate(make(seed=0 if FIRST else 1), data, **TWO))
    report["models of a test"] = error_of(lambda: evaluate(make(seed=0 if FIRST else 1), data, devices=2))
    report["three"] = error_of(lambda: estimate(vae, data, devices=3))
    report["after errors"] = same(estimate(vae, data, **TWO), whole)

    splits = DataSet("bits", images(60), images(20), data, pixels="binary", description="")
    settings = training.TrainingSettings(max_epochs=1, batch_size=20, warmup_epochs=0)
    compute = training.ComputeSettings("cpu", devices=2)
    averaging = make()
    averaging.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 6))
    for name, model in (("trained", vae), ("trained with averages of batches", averaging)):
        training.train(model, splits, settings, compute=compute, progress=False)
        report[name] = same(estimate(model, splits, **TWO), estimate(model, splits))

    if not FIRST:
        def end(_module, inputs, _output, calls=[0]):
            calls[0] += 1
            if calls[0] == 4:
                (folder / "report-1.json").write_text(json.dumps(report))
                os.kill(os.getpid(), signal.SIGKILL)
        vae.encoder.register_forward_hook(end)  # called for the plan, and for each batch
    report["killed"] = error_of(lambda: estimate(vae, images(200), folder=folder / "killed", **TWO))
    (folder / "report-0.json").write_text(json.dumps(report))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(vae_flows.__file__).parents[1])}
    command = [sys.executable, str(script), str(folder)]
    ended = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder, [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_find_what_one_does(made):
    _, reports = made
    for report in reports:
        for name in ("same", "one batch", "dynamic", "ffjord", "after errors", "other", "test"):
            assert report[name], name
        assert report["trained"]
        assert report["trained with averages of batches"]
    assert [report["batches of the test"] for report in reports] == [2, 1]
    assert reports[0]["seconds"] == reports[1]["seconds"] > 0


@pytest.mark.slow
def test_progress_is_told_once(made):
    _, (first, second) = made
    assert first["told"] == [40, 50]
    assert second["told"] == []


@pytest.mark.slow
def test_another_number_of_processes_goes_on(made):
    folder, (first, second) = made
    assert first["one is stopped"] == first["two are stopped"] == second["two are stopped"] == "Told: stopped"
    assert first["goes on in two"]
    assert second["goes on in two"]
    assert first["told then"] == [40, 50]
    assert first["goes on in one"]
    assert first["told at last"] == [50]
    assert [file.name for file in (folder / "of two").iterdir()] == [FILE]


@pytest.mark.slow
def test_what_one_process_raises_all_raise(made):
    _, reports = made
    for report in reports:
        assert report["error"] == "IntegrationError: too stiff"
        assert report["another seed"].startswith("CheckpointError:")
        for name in ("models", "models of a test"):
            assert "expected the same model, data and arguments in each process" in report[name]
        assert "devices: expected 1 or 2, the processes that run, got 3" in report["three"]
    assert "expected its share of the work, got an error (Unportable: odd)" in reports[0]["odd error"]
    assert reports[1]["odd error"] == "Unportable: odd"


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_is_finished(made):
    folder, (first, _) = made
    assert first["killed"].startswith("ProcessError: processes: expected 2 at work, got one that ended")
    done, count = count_finished(folder / "killed" / FILE)
    assert (done, count) == (80, 200)


LOST = """
import os
import signal
import sys
import threading
import time
from pathlib import Path

from vae_flows.processes import is_main_process, start_processes
import torch

if is_main_process():
    def kill():
        while not Path(sys.argv[1]).exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=kill, daemon=True).start()
else:
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(2)  # meanwhile the first one is killed
start_processes("call", 2, torch.device("cpu"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_whose_starter_is_killed_before_they_meet_ends(tmp_path: Path):
    (tmp_path / "script.py").write_text(LOST, encoding="utf-8")
    told = tmp_path / "pid"
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(told)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(vae_flows.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    process, deadline = int(told.read_text()), time.monotonic() + 60
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = _lives(process)
    if left:
        os.kill(process, signal.SIGKILL)
    assert not left


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
