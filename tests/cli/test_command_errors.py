"""Where a command cannot read or write, it says so in one line with path and remedy, and its status is 1."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import commands as project
from experiments.cli import main
from vae_flows.benchmark.engine import IN_USE
from vae_flows.benchmark.grid import plan_grid
from vae_flows.benchmark.presets import PRESETS
from vae_flows.cli import commands
from vae_flows.cli.main import OUTPUT_CLOSED
from vae_flows.errors import FileError, InvalidInputError, VAEFlowsError
from vae_flows.persistence import json_files
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.runs import evaluations, execution
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import FAILURE, METRICS, SETTINGS, load_settings, prepare
from vae_flows.runs.page import PAGE_FILES
from vae_flows.runs.settings import EvaluationSettings, NetworkSettings, RunSettings, with_changes

SMOKE = ["--preset", "smoke", "--accelerator", "cpu"]
WRITERS = {
    "train": ["train", "--posterior", "none", *SMOKE, "--folder"],
    "benchmark": ["benchmark", "--posteriors", "none", *SMOKE, "--folder"],
    "density": ["density", "--steps", "1", "--folder"],
    "density, published": ["density", "--steps", "1", "--publish"],
    "regularizers": ["regularizers", "--steps", "1", "--folder"],
    "regularizers, published": ["regularizers", "--steps", "1", "--publish"],
    "speed": ["speed", "--quick", "--folder"],
    "speed, published": ["speed", "--quick", "--publish"],
}
READERS = {"evaluate": ["evaluate"], "report": ["report"], "run": ["run"]}
PLACES = {
    "a file in the way": "file",
    "below a file": "file/below",
    "a link to nowhere": "dangling/below",
    "a loop of links": "loop",
    "a name too long": "n" * 300,
    "a device": "/dev/full",
    "a pipe": "pipe",
}


@pytest.fixture
def places(no_colour, monkeypatch):
    """Conditions under which nothing can be written, in the working folder; root ignores permissions."""

    def computed(*_arguments: object, **_options: object) -> None:
        pytest.fail("computed first, and would have lost the result")

    for module, names in ((commands, ["execute", "run_grid"]), (project, ["run_density", "run_trials", "compare"])):
        for name in names:
            monkeypatch.setattr(module, name, computed)
    (no_colour / "file").touch()
    (no_colour / "dangling").symlink_to("/proc/nowhere")
    (no_colour / "loop").symlink_to("loop")
    os.mkfifo(no_colour / "pipe")
    return no_colour


def one_line(capsys) -> str:
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_computed(command, place, places, capsys):
    assert main([*command, place]) == 1
    said = one_line(capsys)
    assert place.split("/")[0] in said
    assert said.count(". ") >= 1  # a remedy


@pytest.mark.parametrize("place", [*PLACES.values(), "nowhere"], ids=[*PLACES, "missing"])
@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
def test_a_place_that_cannot_be_read_is_told(command, place, no_colour, capsys):
    (no_colour / "file").touch()
    (no_colour / "loop").symlink_to("loop")
    os.mkfifo(no_colour / "pipe")
    assert main([*command, place]) == 1
    assert place.split("/")[0] in one_line(capsys)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_disk_that_cannot_be_written_to_is_told(command, number, places, capsys, monkeypatch):
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    monkeypatch.setattr(json_files.tempfile, "TemporaryFile", fail)
    assert main([*command, "folder"]) == 1
    said = one_line(capsys)
    assert "folder" in said
    assert os.strerror(number) in said


@pytest.fixture
def finished(no_colour) -> Path:
    tiny = {
        "max_images": 60,
        "training.max_epochs": 1,
        "evaluation.importance_samples": 0,
        "compute.accelerator": "cpu",
    }
    (run,) = plan_grid(PRESETS["smoke"], no_colour / "grid", posteriors=["none"], changes=tiny)
    prepare(run.folder, run.settings)
    execute(run.folder)
    return run.folder


def test_evaluate_tries_to_write_before_it_computes(finished, capsys, monkeypatch):
    (finished / "evaluation-7-samples.json").mkdir()
    monkeypatch.setattr(commands, "evaluate_run", lambda *_, **__: pytest.fail("computed first"))
    assert main(["evaluate", str(finished), "--importance-samples", "7"]) == 1
    assert "evaluation-7-samples.json" in one_line(capsys)


@pytest.mark.parametrize("samples", [0, 3])
def test_weights_that_are_not_finite_are_an_error_of_the_test(finished, capsys, monkeypatch, samples):
    real = evaluations.estimate_likelihood

    def spoiled(vae, *arguments, **options):
        for parameter in vae.decoder.parameters():
            parameter.data.fill_(float("nan"))
        return real(vae, *arguments, **options)

    monkeypatch.setattr(evaluations, "estimate_likelihood", spoiled)
    assert main(["evaluate", str(finished), "--importance-samples", str(samples), "--device", "cpu"]) == 1
    assert "nan" in one_line(capsys)
    assert not list(finished.glob("evaluation-*"))


def run(*arguments: str, **options) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "NO_COLOR": "1", **options.pop("env", {})}
    command = [sys.executable, "-m", "experiments", *arguments]
    return subprocess.run(command, env=environment, capture_output="stdout" not in options, check=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:strict"])
def test_output_goes_to_terminals_of_any_encoding(finished, encoding):
    root = finished.parents[2]
    for arguments in (["report", str(root)], ["evaluate", str(finished), "--importance-samples", "2"], ["--help"]):
        done = run(*arguments, env={"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"})
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert b"-ELBO" in run("report", str(root), env={"PYTHONIOENCODING": "ascii"}).stdout


@pytest.mark.slow
def test_output_that_nobody_reads_ends_a_command_quietly(finished):
    for arguments in (["report", str(finished.parents[2])], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as closed:
            done = run(*arguments, stdout=closed, stderr=subprocess.PIPE)
        assert done.returncode in (1, OUTPUT_CLOSED)
        assert b"Traceback" not in done.stderr
        assert b"BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_output_to_a_full_disk_is_told(finished):
    with open("/dev/full", "wb") as full:
        done = run("report", str(finished.parents[2]), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_report_without_a_readable_run_fails_and_leaves_a_page_that_says_why(finished, capsys):
    (finished / SETTINGS).write_text("[]", encoding="utf-8")
    for runs, place in (([finished, "gone"], finished), (["gone", "lost", "--publish", "page"], Path("page"))):
        assert main(["report", *map(str, runs)]) == 1
        assert "at least one that can be read" in one_line(capsys)
        assert "There are no runs to show" in (place / "report.html").read_text(encoding="utf-8")
    assert not Path("gone").exists()


def test_a_run_in_use_is_not_failed_and_its_status_says_so(finished, capsys):

    (finished / METRICS).unlink()
    script = "import sys,time; from pathlib import Path; from vae_flows.persistence.files import exclusive\n"
    script += "with exclusive(Path(sys.argv[1])): print(1, flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, str(finished)], **pipes) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "LOCK_SECONDS", 0.1)
            assert main(["run", str(finished)]) == IN_USE
        assert "another process works in" in one_line(capsys)
        other.communicate(b"")
    assert not (finished / FAILURE).exists()


def test_a_finished_run_has_no_mark_of_failure(finished):
    write_json(finished / FAILURE, {"error": "old"})
    execute(finished)
    assert not (finished / FAILURE).exists()


def test_temporary_files_of_killed_runs_are_swept(finished):
    left = [finished / f".last.ckpt.{'0' * 32}", finished.parents[2] / f".table.md.{'0' * 32}"]
    for file in left:
        file.touch()
    execute(finished)
    assert main(["report", str(finished.parents[2])]) == 0
    assert not any(file.exists() for file in left)


def test_a_folder_that_is_removed_during_a_run_is_an_error(finished, monkeypatch):
    import shutil

    real = execution.evaluate_each

    def removed(*arguments, **options):
        shutil.rmtree(finished)
        return real(*arguments, **options)

    (finished / METRICS).unlink()
    monkeypatch.setattr(execution, "evaluate_each", removed)
    with pytest.raises(FileError, match="removed or replaced"):
        execute(finished)
    assert main(["run", str(finished)]) == 1


def test_only_what_concerns_the_test_may_change_before_it(finished):
    settings = load_settings(finished)
    other = with_changes(settings, {"evaluation.importance_samples": 3, "evaluation.batch_size": 7})
    with pytest.raises(InvalidInputError, match="expected a new folder or a run with the same settings"):
        prepare(finished, other)  # it is finished
    (finished / METRICS).unlink()
    prepare(finished, other)
    assert load_settings(finished) == other
    assert (execute(finished) or {})["test"]["importance_samples"] == 3
    (finished / METRICS).unlink()
    with pytest.raises(InvalidInputError, match=r"training.max_epochs = 1 \(asked for: 2\)"):
        prepare(finished, with_changes(other, {"evaluation.importance_samples": 4, "training.max_epochs": 2}))


@pytest.mark.parametrize(
    "change",
    [
        {"data": "../../x"},
        {"data": "/tmp/x"},
        {"data": ".."},
        {"data": "other"},
        {"data": 3},
        {"posterior": "../../../x"},
        {"posterior": ["none"]},
        {"seed": "0/../../../x"},
        {"seed": True},
        {"nats_per_unit": 0},
        {"nats_per_unit": None},
        {"test": None},
        {"test": {"negative_elbo": "a"}},
        {"history": {"seconds": ["a"], "validation_negative_elbo": []}},
        {"history": {"seconds": [1.0], "validation_negative_elbo": [None]}},
        {"settings": []},
        {"settings": {"data": "x", "posterior": "none", "unknown": 1}},
        {"unit": {}},
        {"parameters": "many"},
        {"commit": []},
    ],
    ids=str,
)
def test_what_a_runs_folder_says_is_not_trusted(finished, change, capsys):
    root = finished.parents[2]
    before = sorted(path for path in root.parent.rglob("*"))
    write_json(finished / METRICS, read_json(finished / METRICS) | change)
    assert main(["report", str(root)]) == 1
    assert str(finished / METRICS) in one_line(capsys)
    pages = {root / name for name in PAGE_FILES}  # which tell the damage in its place
    assert sorted(path for path in root.parent.rglob("*") if path not in pages) == before


@pytest.mark.parametrize("content", ["[]", "3", "{", "null", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
@pytest.mark.parametrize("name", [METRICS, SETTINGS])
def test_files_of_a_run_that_are_damaged_are_told(finished, content, name, capsys):
    (finished / METRICS).unlink()
    (finished / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["report", str(finished.parents[2])]) == 1
    assert one_line(capsys)


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "text", "other arrays", "other type"])
def test_pictures_of_a_run_that_are_damaged_are_told(finished, damage, capsys):
    path = finished / "images.npz"
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 3
    match damage:
        case "flipped":
            whole[middle] ^= 1
            path.write_bytes(whole)
        case "cut":
            path.write_bytes(whole[:middle])
        case "missing":
            path.unlink()
        case "text":
            path.write_text("text")
        case "other arrays":
            np.savez(path, originals=np.zeros(3))
        case _:
            np.savez(path, **dict.fromkeys(("originals", "reconstructions", "samples"), np.array(["a"])))
    assert main(["report", str(finished.parents[2])]) == 1
    assert "images.npz" in one_line(capsys)


RUN = {"data": "mnist-static", "posterior": "none"}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((EvaluationSettings, {"importance_samples": value}) for value in (-1, True, "5", 1.5, None, float("nan"))),
        *((EvaluationSettings, {"chunk_size": value}) for value in (0, -1, True, "5", 1.5)),
        *((EvaluationSettings, {"batch_size": value}) for value in (0, -1, True, "5", 1.5, None)),
        *((NetworkSettings, {"context_dim": value}) for value in (0, True, "5", 1.5, None)),
        *((NetworkSettings, {"hidden_dims": value}) for value in (5, "5", (0,), (True,), (1.5,), [5])),
        *((NetworkSettings, {"kind": value}) for value in ("mpl", 3, None)),
        *((RunSettings, {**RUN, "latent_dim": value}) for value in (0, True, "5", 1.5, None)),
        *((RunSettings, {**RUN, "max_images": value}) for value in (0, True, "5", 1.5)),
        *((RunSettings, {**RUN, "split_seed": value}) for value in (-1, True, "x", 2**32)),
        *((RunSettings, {**RUN, "pixels": value}) for value in ("gray", 1)),
        *((RunSettings, {**RUN, "data": value}) for value in ("", 3, None)),
        *((RunSettings, {**RUN, "posterior": value}) for value in ("", 3, None)),
        *((RunSettings, {**RUN, "data_path": value}) for value in (3, True)),
        *((RunSettings, {**RUN, "posterior_options": value}) for value in (3, "a", [1])),
        *((RunSettings, {**RUN, "evaluation": value}) for value in ({}, None, 3)),
        *((RunSettings, {**RUN, "variance_bounds": value}) for value in (3, (1,), (2, 1), (0, 1), ("a", 1))),
        (RunSettings, {**RUN, "variance_bounds": (0.1, float("nan"))}),
    ],
)
def test_settings_are_checked_when_they_are_made(kind, wrong):
    with pytest.raises(VAEFlowsError, match="expected"):
        kind(**wrong)


@pytest.mark.parametrize(
    "flag",
    [
        ["--evaluation.importance-samples", "-1"],
        ["--evaluation.batch-size", "True"],
        ["--evaluation.chunk-size", "x"],
        ["--evaluation", "5"],
    ],
)
def test_wrong_settings_of_the_test_are_told_before_the_training(flag, no_colour, capsys):
    assert main(["train", "--posterior", "none", *SMOKE, *flag]) == 1
    assert one_line(capsys)
    assert list(no_colour.iterdir()) == []
