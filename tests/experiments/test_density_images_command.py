"""Learning densities of images from the command line: what is computed, written, continued and refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.cli import main
from experiments.images import ImageSettings, paper_settings, run_images
from experiments.images.fit import Training
from experiments.images.run import METRICS, SAMPLES, STATE
from tests.seeds import numpy_generator
from vae_flows.errors import DataError, InvalidInputError
from vae_flows.persistence.archives import read_npz

TINY = ImageSettings(
    hidden_channels=(3,), num_scales=2, batch_size=8, seconds=None, epochs=2, test_size=10, tolerance=1e-2
)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A file of 60 grey pictures of 8 × 8 pixels, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    levels = numpy_generator(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez("pictures.npz", images=levels)
    return replace(TINY, data="pictures.npz")


def test_the_command_learns_tests_and_draws(pictures, no_colour, capsys):
    options = ["--data", pictures.data, "--scales", "1", "2", "--seconds", "0.5", "--threads", "1"]
    assert main(["density-images", *options, "--publish", "published"]) == 0
    out = capsys.readouterr().out
    for text in ("bits/dim", "1 scale", "2 scales", "images.md", "images-pictures.png"):
        assert text in out
    for scales in (1, 2):
        folder = Path(f"runs/images/pictures/{scales}-scales-uniform/seed-0")
        assert {path.name for path in folder.iterdir()} == {METRICS, SAMPLES, STATE}
        metrics = json.loads((folder / METRICS).read_text())
        assert metrics["settings"]["num_scales"] == scales
        assert metrics["training"]["seconds"] >= 0.5
        assert metrics["training"]["moments"][-1]["step"] == metrics["training"]["steps"]
        assert {"versions", "hardware", "commit", "parameters"} <= metrics.keys()
        stored = read_npz(folder / SAMPLES, ["data", "samples"])
        assert stored["samples"].shape[1:] == (1, 8, 8)
        assert set(np.unique(np.round(stored["samples"] * 255))) <= set(range(256))
    assert len(json.loads(Path("published/images.json").read_text())["runs"]) == 2
    assert imread("published/images.png").any()
    assert main(["density-images", *options]) == 0  # finished runs are kept
    assert "validation" not in capsys.readouterr().out


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(pictures, monkeypatch):
    whole = run_images(Path("whole"), pictures)
    step = Training._step

    def interrupted(training):
        if training.step == 7:
            raise KeyboardInterrupt
        return step(training)

    monkeypatch.setattr(Training, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_images(Path("stopped"), pictures)
    assert not Path("stopped", METRICS).exists()
    monkeypatch.setattr(Training, "_step", step)
    told = []
    resumed = run_images(Path("stopped"), pictures, told.append)
    assert resumed["test"] == whole["test"]
    assert 0 < len(told) < len(whole["training"]["moments"])
    for one, other in zip(resumed["training"]["moments"], whole["training"]["moments"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_another_setting_begins_anew(pictures):
    first = run_images(Path("run"), pictures)
    assert run_images(Path("run"), pictures) == first
    other = run_images(Path("run"), replace(pictures, seed=1))
    assert other["test"] != first["test"]
    assert run_images(Path("run"), pictures)["test"] == first["test"]


def test_training_learns(pictures):
    np.savez("pictures.npz", images=np.full((60, 8, 8), 200, dtype=np.uint8))
    settings = replace(pictures, num_scales=1, epochs=12, learning_rate=2e-2, dequantization="variational")
    moments = run_images(Path("run"), settings)["training"]["moments"]
    assert moments[-1]["bits_per_dim"] < moments[0]["bits_per_dim"] - 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": 1.0},
        {"epochs": None},
        {"epochs": 0},
        {"num_scales": 0},
        {"tolerance": 0.0},
        {"test_tolerance": 0.0},
        {"seed": -1},
        {"test_size": 0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(InvalidInputError, match="ImageSettings"):
        replace(TINY, **changes)


def test_data_without_levels_are_refused(tmp_path):
    np.savez(tmp_path / "numbers.npz", values=numpy_generator(0).normal(size=(30, 5)))
    with pytest.raises(DataError):
        run_images(tmp_path / "run", replace(TINY, data=str(tmp_path / "numbers.npz")))


def test_the_published_settings_are_for_the_published_data():
    assert [paper_settings(name, multiscale=True).num_scales for name in ("mnist", "cifar10")] == [3, 4]
    assert paper_settings("mnist", multiscale=False).num_scales == 1
    with pytest.raises(InvalidInputError, match="mnist or cifar10"):
        paper_settings("omniglot", multiscale=True)
