"""The command line, from help to results."""

import json
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from torch import nn

import vae_flows as vf
from experiments import commands as project
from experiments.cli import COMMANDS, main
from vae_flows.benchmark import engines
from vae_flows.benchmark.engine import RunExit
from vae_flows.cli import commands
from vae_flows.cli.main import INTERRUPTED, summary_of
from vae_flows.errors import VAEFlowsError
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS

TINY = [
    "--max-images",
    "60",
    "--training.batch-size",
    "30",
    "--training.max-epochs",
    "1",
    "--evaluation.importance-samples",
    "2",
]
SMOKE = ["--preset", "smoke", "--accelerator", "cpu", *TINY]
# More orthogonal columns than there are latents.
TOO_MANY = ["--posteriors", "sylvester-orthogonal", "planar", "--sylvester-orthogonal.num-orthogonal", "99"]


class DoneHandle:
    """A run that ended while it was started."""

    begun = True

    def __init__(self, end: RunExit) -> None:
        self.end = end

    def poll(self) -> RunExit:
        return self.end

    def stop(self) -> None:
        pass


class InProcessRunner:
    """Trains runs one after the other in this process."""

    workers = 1

    def __init__(self, *_options: int | None, gpus_each: int) -> None:
        pass

    def start(self, folder: Path) -> DoneHandle:
        try:
            execute(folder)
        except VAEFlowsError as error:
            return DoneHandle(RunExit(f"error: {error}"))
        return DoneHandle(RunExit())


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help(command, capsys, no_colour):
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.count("usage:") == 1
    for name in [command] if command else COMMANDS:
        assert name in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["benchmark", "--preset", "quik"],
            "error: --preset: expected one of paper, quick, quick-all, smoke, got 'quik'",
        ),
        (["benchmark", "--posteriors", "plannar"], "Did you mean 'planar'"),
        (["benchmark", "--data", "mnist-statc"], "Did you mean 'mnist-static'"),
        (["benchmark", "--latents", "3"], "Did you mean '--latent-dim'"),
        (["train", "--preset", "quik"], "error: --preset"),
        (["train", "--devices", "0"], "error: --devices: expected"),
        (["train", "--posterior", "plannar"], "Did you mean 'planar'"),
        (["train", "--data", "mnist-statc"], "Did you mean 'mnist-static'"),
        (["evaluate", "nowhere"], "expected a JSON file, got no file"),
        (["report", "nowhere"], "at least one that can be read"),
    ],
)
def test_wrong_names_are_one_line_and_write_nothing(arguments, message, capsys, no_colour):
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert list(no_colour.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "called", "told"),
    [
        (["train"], "find_preset", "the same command with --resume goes on from the last checkpoint"),
        (["benchmark"], "plan_grid", "the same command goes on from the last checkpoints"),
        (
            ["density"],
            "run_density",
            "the same command keeps finished runs; of a toy density it begins the last anew, of a table it goes on",
        ),
        (["regularizers"], "run_trials", "the same command keeps finished runs and begins the last one anew"),
        (["run", "folder"], "execute", "the same command goes on from the last checkpoint"),
        (["evaluate", "folder"], "load_settings", "the same command goes on from what is finished"),
        (["report", "."], "write_page", "the same command begins anew"),
        (["speed"], "compare", "the same command begins anew"),
    ],
)
def test_an_interrupt_says_what_the_command_would_do_next(arguments, called, told, monkeypatch, capsys, no_colour):
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    module = project if arguments[0] in ("density", "regularizers", "speed") else commands
    monkeypatch.setattr(module, called, interrupted)
    assert main(arguments) == INTERRUPTED
    assert capsys.readouterr().err == f"interrupted; {told}\n"


def test_the_recipe_for_networks_of_ones_own_runs(capsys, no_colour, monkeypatch):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    recipe = re.search(r"    import vae_flows.*?save_pretrained[^\n]*", capsys.readouterr().out, flags=re.DOTALL)
    assert recipe is not None
    trained = []

    def train(vae, data, settings):
        trained.append(vae.elbo(data.train.take(2).batch()).elbo.isfinite().all())

    monkeypatch.setattr(vf.training, "train", train)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 256))
    decoder = nn.Sequential(nn.Linear(64, 784), nn.Unflatten(1, (1, 28, 28)))
    monkeypatch.setattr(vf.VAE, "save_pretrained", lambda vae, folder: trained.append(folder))
    exec(textwrap.dedent(recipe.group()), {"MyEncoder": lambda: encoder, "MyDecoder": lambda: decoder})
    assert trained == [True, "mine"]


def test_train_then_evaluate(no_colour, capsys):
    folder = Path("run")
    assert main(["train", "--posterior", "planar", "--folder", "run", *SMOKE]) == 0
    assert "−log p(x)" in capsys.readouterr().out
    assert main(["evaluate", "run", "--importance-samples", "3"]) == 0
    assert "3 importance samples" in capsys.readouterr().out
    stored = json.loads((folder / "evaluation-3-samples.json").read_text())
    tested = json.loads((folder / METRICS).read_text())["test"]
    assert abs(stored["negative_elbo"] - tested["negative_elbo"]) < 5 * tested["negative_elbo_standard_error"]
    assert main(["evaluate", "run", "--diagnostics"]) == 0
    told = capsys.readouterr().out
    assert "active units" in told
    assert "diagnostics.json" in told
    assert main(["train", "--posterior", "planar", "--folder", "run", *SMOKE]) == 1
    assert "a finished one. Choose another --folder." in capsys.readouterr().err


def test_train_goes_on_only_when_told_to(no_colour, capsys, monkeypatch):
    arguments = ["train", "--posterior", "none", *SMOKE]

    def no_memory(*_arguments: object, **_options: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("vae_flows.runs.execution.evaluate_each", no_memory)
        with pytest.raises(MemoryError):
            main(arguments)
    assert main(arguments) == 1
    assert "Pass --resume to go on" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert (Path("runs/train/caltech101-silhouettes/none/seed-0") / METRICS).exists()


def test_benchmark_reports_and_publishes(no_colour, capsys, monkeypatch):
    monkeypatch.setattr(engines, "LocalEngine", InProcessRunner)
    arguments = ["benchmark", "--posteriors", "none", "planar", *SMOKE]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "none seed 0: finished in" in out
    assert "FFJORD paper, Table 3" in out
    assert {"results.json", "table.md", "table.csv"} <= {path.name for path in Path("runs/smoke").iterdir()}
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    assert main(["report", "runs/smoke", "--publish", "published"]) == 0
    assert Path("published/table.md").read_text() == Path("runs/smoke/table.md").read_text()
    assert main(["benchmark", "--posteriors", "none", "--preset", "smoke"]) == 1
    assert "training.max_epochs = 1 (asked for: 2)" in capsys.readouterr().err


def test_a_posterior_that_fails_does_not_stop_the_others(no_colour, capsys, monkeypatch):
    monkeypatch.setattr(engines, "LocalEngine", InProcessRunner)
    assert main(["benchmark", *TOO_MANY, *SMOKE]) == 1
    captured = capsys.readouterr()
    assert "failed: caltech101-silhouettes sylvester-orthogonal seed 0" in captured.err
    assert "expected num_orthogonal at most latent_dim = 4, got 99" in captured.err
    table = Path("runs/smoke/table.md").read_text()
    assert "| sylvester-orthogonal | failed | failed |" in table
    assert "1 of 2 runs failed." in table


@pytest.mark.slow
def test_a_real_grid_of_processes(tmp_path):
    def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "experiments", "benchmark", "--folder", str(tmp_path), "--workers", "2"]
        return subprocess.run([*command, *SMOKE, *arguments], capture_output=True, text=True, check=False)

    first = benchmark(*TOO_MANY)
    assert first.returncode == 1
    assert "ended with status 1" in first.stderr
    assert "num_orthogonal" in first.stderr
    again = benchmark(*TOO_MANY)
    assert "planar seed 0: finished before" in again.stdout
    assert "sylvester-orthogonal seed 0: started" in again.stdout
    log = tmp_path / "caltech101-silhouettes" / "sylvester-orthogonal" / "seed-0" / "log.txt"
    assert log.read_text().count("num_orthogonal") == 2


def test_data_of_ones_own_are_described(no_colour, capsys):
    levels = np.random.RandomState(0).randint(0, 256, (30, 4, 5, 3)).astype(np.uint8)
    np.savez(no_colour / "colour.npz", images=levels)
    np.savez(no_colour / "grey.npz", images=levels[..., 0])
    np.save(no_colour / "table.npy", np.random.RandomState(0).randn(30, 2))
    assert main(["data", "colour.npz", "grey.npz", "table.npy"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition("; ")[0] for line in said] == [
        "colour: 3×4×5, colour",
        "grey: 1×4×5, grey",
        "table: 2, numbers",
    ]


ALONE = """
import io, sys
from contextlib import redirect_stdout
from vae_flows.cli.main import main

written = io.StringIO()
with redirect_stdout(written):
    try:
        status = main(sys.argv[1:])
    except SystemExit as ended:
        status = ended.code
loaded = {"torch", "pyro", "numpy", "scipy", "matplotlib", "lightning_fabric", "vae_flows.namespace"} & set(sys.modules)
assert status == 0, status
assert not loaded, loaded
print(written.getvalue())
"""


@pytest.mark.parametrize(("arguments", "told"), [(["--help"], "benchmark"), ([], "benchmark"), (["--version"], "0.")])
def test_help_and_version_load_no_library_of_numbers(arguments, told):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_commands_are_there_and_summed_up_as_they_say(command):
    function = resolve_name(command.function)
    assert summary_of(command)
    assert " ".join((function.__doc__ or "").partition("\n\n")[0].split()) == summary_of(command)
    assert command.further is None or callable(resolve_name(command.further))


@pytest.mark.filterwarnings("always")
def test_warnings_are_one_line_each_and_told_once(capsys, no_colour, monkeypatch):
    def warned(*_arguments: object) -> None:
        for _ in range(2):
            warnings.warn("low in\n  digits", RuntimeWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=1)
        raise VAEFlowsError("no")

    monkeypatch.setattr(commands, "find_preset", warned)
    shown = warnings.showwarning
    assert main(["train"]) == 1
    assert capsys.readouterr().err == "warning: low in digits\nwarning: another\nerror: no\n"
    assert warnings.showwarning is shown


@pytest.mark.parametrize("levels", [True, False])
def test_bits_are_told_where_the_data_are_levels_and_nowhere_else(levels, no_colour, capsys):
    pixels = np.random.RandomState(0).randint(0, 256, (60, 4, 5)).astype(np.uint8)
    np.savez("data.npz", images=pixels) if levels else np.save("data.npy", pixels[:, 0] / 7)
    tiny = ["--preset", "smoke", "--accelerator", "cpu", *TINY]
    likelihood = ["--likelihood", "gaussian"]  # a density, whose bins count where there are some
    assert main(["train", "--data", f"data.np{'z' if levels else 'y'}", "--folder", "run", *likelihood, *tiny]) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", "run", "--importance-samples", "2"]) == 0
    told = [line for line in (trained + capsys.readouterr().out).splitlines() if "−ELBO" in line or "−log p(x)" in line]
    assert len(told) == 4
    assert all(("bits/dim" in line) == levels for line in told)
    metrics = vf.Run("run").metrics
    assert metrics is not None
    assert f"{metrics.test.negative_elbo:.2f} nats" in told[0]
    for line in told if levels else []:
        nats, bits = (float(re.findall(r"-?[\d.]+(?= nats| bits)", part)[-1]) for part in line.split(" = "))
        assert bits == pytest.approx(metrics.in_unit(nats), abs=1e-3)  # both are rounded
