"""`vae-flows evaluate --devices 2` writes and tells once what one process finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as many as here, where one process evaluates
    environment = os.environ | threads | {"PYTHONPATH": str(Path(vf.__file__).parents[1]), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "vae_flows", "evaluate", *arguments, *ARGUMENTS]
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
