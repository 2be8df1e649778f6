"""Whatever engine runs a grid: the same outcomes, words, files and exit statuses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.benchmark.attempts import executed
from tests.benchmark.ray_clusters import open_cluster, processes_with
from tests.benchmark.slurm_commands import end_all, write_commands
from vae_flows.benchmark.engine import IN_USE, Engine
from vae_flows.benchmark.engines import EngineSettings
from vae_flows.benchmark.grid import GridRun, RunOutcome, plan_grid, run_grid
from vae_flows.benchmark.local import LocalEngine
from vae_flows.benchmark.presets import PRESETS
from vae_flows.cli.main import main
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.persistence.files import exclusive
from vae_flows.persistence.json_files import read_json
from vae_flows.runs.folder import FAILURE, METRICS

SECONDS = 60.0
# Stands for a run: what it does hangs on its posterior.
SCRIPT = f"""
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
posterior = (folder / "settings.json").read_text().split('"posterior": "')[1].split('"')[0]
print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
if posterior == "none":
    (folder / "metrics.json").write_text("{{}}")
elif posterior == "planar":
    sys.exit("error: no memory")
elif posterior == "iaf":
    os.kill(os.getpid(), signal.SIGKILL)
elif posterior == "sylvester-orthogonal":
    met = folder / "met"
    if not met.exists():
        met.touch()
        sys.exit({IN_USE})
    (folder / "metrics.json").write_text("{{}}")
elif posterior == "ffjord":
    time.sleep(600)
"""
EXPECTED = {
    "none": ("finished", None),
    "planar": ("failed", "ended with status 1\nthreads 1\nerror: no memory"),
    "iaf": ("failed", "ended by signal SIGKILL\nthreads 1"),
    "sylvester-orthogonal": ("finished", None),
    "sylvester-householder": ("failed", f"ended well but left no {METRICS}"),
}
NAMES = ("local", "ray", "ray, brought back", "slurm")


class Recorder:
    """Remembers what it was told."""

    def __init__(self, stop_when: Callable[[Sequence[GridRun]], bool] = lambda _: False) -> None:
        self.begun: list[GridRun] = []
        self.outcomes: list[RunOutcome] = []
        self.met: list[GridRun] = []
        self.stop_when = stop_when

    def started(self, run: GridRun) -> None:
        self.begun.append(run)

    def ended(self, outcome: RunOutcome) -> None:
        self.outcomes.append(outcome)

    def elsewhere(self, run: GridRun) -> None:
        self.met.append(run)

    def running(self, runs: Sequence[GridRun]) -> None:
        if self.stop_when(runs):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cluster():
    with open_cluster() as opened:
        opened.grow(2)
        yield opened


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch) -> Iterator[None]:
    for variable, value in write_commands(tmp_path / "slurm").items():
        monkeypatch.setenv(variable, value)
    yield
    end_all(tmp_path / "slurm")


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def options(name, request) -> list[str]:
    """The engine's options on the command line."""
    if name == "local":
        return ["--workers", "2"]
    if name == "slurm":
        pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vae-flows[slurm]'")
        request.getfixturevalue("fake_slurm")
        return ["--engine", "slurm", "--sbatch", "partition", "small"]
    address = request.getfixturevalue("cluster").address
    return ["--engine", "ray", "--address", address, *(["--bring-back"] if "back" in name else [])]


@pytest.fixture
def engine(name, request) -> Iterator[Engine]:
    """The engine with the script instead of the command that works on a run."""
    with _opened(name, request) as opened:
        yield opened


def _opened(name: str, request: pytest.FixtureRequest) -> AbstractContextManager[Engine]:
    command = ("-c", SCRIPT)
    if name == "local":
        return nullcontext(LocalEngine(2, 1, gpus_each=0, command=command))
    if name == "slurm":
        pytest.importorskip("submitit", reason="submitit is not installed: pip install 'vae-flows[slurm]'")
        from vae_flows.benchmark.slurm_engine import SlurmEngine

        return SlurmEngine(cluster="local", command=command)
    cluster = request.getfixturevalue("cluster")
    from vae_flows.benchmark.ray_engine import RayEngine

    return RayEngine(cluster.address, shared="back" not in name, command=command)


def make_runs(root: Path, *posteriors: str) -> tuple[GridRun, ...]:
    return plan_grid(PRESETS["smoke"], root, posteriors=posteriors)


def test_outcomes_are_the_same(engine, tmp_path):
    runs = make_runs(tmp_path, *EXPECTED)
    recorder = Recorder()
    outcomes = run_grid(runs, engine, recorder)
    assert {outcome.run.settings.posterior: (outcome.status, outcome.error) for outcome in outcomes} == EXPECTED
    # The one that another process was at work on was taken up again when that one had left it.
    met = [run for run in runs if run.settings.posterior == "sylvester-orthogonal"]
    assert recorder.met == met
    assert sorted(run.label for run in recorder.begun) == sorted(run.label for run in [*runs, *met])
    failed = [run for run in runs if EXPECTED[run.settings.posterior][0] == "failed"]
    assert [run for run in runs if (run.folder / FAILURE).exists()] == failed
    for run in runs:
        assert (run.folder / "log.txt").read_text().startswith("threads 1\n")
        left = [path.name for path in run.folder.iterdir() if path.name.startswith(".")]
        assert left == []
        with exclusive(run.folder):  # nobody holds it any more
            pass


def test_an_interrupt_ends_the_runs_at_once_and_marks_none_as_failed(engine, tmp_path):
    runs = make_runs(tmp_path, "ffjord")
    start = time.monotonic()

    def at_work(_: Sequence[GridRun]) -> bool:
        assert time.monotonic() - start < SECONDS
        return bool(processes_with(SCRIPT)) and os.path.exists(runs[0].folder)

    with pytest.raises(KeyboardInterrupt):
        run_grid(runs, engine, Recorder(at_work))
    deadline = time.monotonic() + SECONDS
    while processes_with(SCRIPT):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (runs[0].folder / FAILURE).exists()
    with exclusive(runs[0].folder):
        pass


CHANGES = {
    "max_images": 60,
    "training.max_epochs": 1,
    "evaluation.importance_samples": 0,
    "compute.accelerator": "cpu",
}
# More orthogonal columns than there are latents.
FAILING = ["--sylvester-orthogonal.num-orthogonal", "99"]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory) -> dict[str, float]:
    """What the test says of a run that no engine ran."""
    root = tmp_path_factory.mktemp("alone")
    (run,) = plan_grid(PRESETS["smoke"], root, posteriors=["planar"], changes=CHANGES)
    return without_times(executed(run)["test"])


def without_times(test: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in test.items() if name != "seconds"}


@pytest.mark.parametrize(
    "name", [name if name == "ray" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES], indirect=True
)
def test_exit_statuses_reports_and_results_are_the_same(options, by_hand, no_colour, capsys):
    command = ["benchmark", "--preset", "smoke", "--folder", "grid", *options]
    command += [word for name, value in CHANGES.items() for word in (f"--{name}", str(value))]
    assert main([*command, "--posteriors", "sylvester-orthogonal", "planar", *FAILING]) == 1
    said = capsys.readouterr()
    assert "planar seed 0: finished in" in said.out
    assert "failed: caltech101-silhouettes sylvester-orthogonal seed 0" in said.err
    assert "ended with status 1" in said.err
    assert "expected num_orthogonal at most latent_dim = 4, got 99" in said.err
    assert "1 of 2 runs failed." in Path("grid/table.md").read_text()
    metrics = read_json(Path("grid/caltech101-silhouettes/planar/seed-0") / METRICS)
    assert without_times(metrics["test"]) == by_hand
    assert main([*command, "--posteriors", "planar"]) == 0
    assert "planar seed 0: finished before" in capsys.readouterr().out


def test_options_of_another_engine_are_refused():
    for options in ({"address": "auto"}, {"cpus_per_run": 2.0}, {"gpus_per_run": 0.5}, {"retries": 1}, {"minutes": 5}):
        with pytest.raises(InvalidInputError, match="none beside engine='local'"):
            EngineSettings(**options)
    for engine, options in (("ray", {"sbatch": {"partition": "gpu"}}), ("slurm", {"bring_back": True})):
        with pytest.raises(InvalidInputError, match=f"none beside engine='{engine}'"):
            EngineSettings(engine, **options)
    with pytest.raises(UnknownNameError, match="Did you mean 'ray'"):
        EngineSettings("rai")  # pyright: ignore[reportArgumentType]
    for options in ({"cpus_per_run": 0.0}, {"gpus_per_run": -1.0}, {"retries": -1}, {"workers": 0}):
        with pytest.raises(InvalidInputError):
            EngineSettings("ray", **options)
