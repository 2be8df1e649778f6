"""`vae-flows evaluate --devices 2` writes and tells once what one process finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vae_flows as vf
from vae_flows.benchmark.presets import PRESETS
from vae_flows.cli.main import main
from vae_flows.runs.evaluations import evaluation_name
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import with_changes

TINY = {"max_images": 60, "training.max_epochs": 1, "compute.accelerator": "cpu"}
ARGUMENTS = ["--importance-samples", "8", "--batch-size", "20", "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    prepare(folder, with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0), TINY))
    execute(folder)
    return folder


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return call("evaluate", *arguments, *ARGUMENTS)


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as many as here, where one process evaluates
    environment = os.environ | threads | {"PYTHONPATH": str(Path(vf.__file__).parents[1]), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "vae_flows", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_processes_leave_what_one_does(made: Path, tmp_path: Path):
    alone = shutil.copytree(made, tmp_path / "alone" / "run")
    shutil.copytree(made, tmp_path / "two" / "other")
    together = shutil.copytree(made, tmp_path / "two" / "run")
    assert main(["evaluate", str(alone), *ARGUMENTS]) == 0
    done = evaluate(str(together.parent), "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written to") == 2  # of two runs, each once
    (expected,), (found,) = (vf.Run(folder).evaluations for folder in (alone, together))
    assert found.bounds == expected.bounds
    assert (found.rate, found.monte_carlo_error) == (expected.rate, expected.monte_carlo_error)
    first, second = (vf.Run(folder).evaluation_scores(found) for folder in (alone, together))
    assert first is not None
    assert second is not None
    assert first.negative_log_likelihood.tolist() == second.negative_log_likelihood.tolist()
    assert sorted(path.name for path in together.glob("evaluation-*")) == [
        f"{evaluation_name(8)}.json",
        f"{evaluation_name(8)}.npz",
    ]


@pytest.mark.slow
def test_a_run_in_two_processes_is_tested_as_in_one(tmp_path: Path):
    folder = tmp_path / "run"
    changes = {**TINY, "compute.devices": 2, "evaluation.batch_size": 20, "evaluation.importance_samples": 5}
    settings = with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0), changes)
    prepare(folder, settings)
    done = call("run", str(folder))
    assert done.returncode == 0, done.stderr
    run = vf.Run(folder)
    assert run.metrics is not None
    expected = vf.evaluation.evaluate(
        run.load_model(),
        run.load_data(),
        batch_size=20,
        importance_samples=5,
        chunk_size=settings.evaluation.chunk_size,
    )
    assert replace(run.metrics.test, seconds=0.0) == replace(expected, seconds=0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "error: --devices: expected a positive integer, got 0"),
        (["--devices", "999"], "error: --devices: expected at most"),
        (["--devices", "2", "--diagnostics"], "error: --devices: expected none beside --diagnostics, got 2"),
    ],
)
def test_wrong_numbers_of_devices_are_one_line(made: Path, arguments: list[str], message: str, capsys):
    assert main(["evaluate", str(made), *ARGUMENTS, *arguments]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
