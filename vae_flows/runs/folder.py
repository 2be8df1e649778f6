"""The folder of a run: the settings that define it, and after it everything that came of it.

`settings.json` defines the run, `last.ckpt` is where it stands, `config.json` and `model.safetensors` are its best
weights as a saved model, `metrics.csv` has a row for each epoch, `log.txt` is what it printed, `images.npz` a few
reconstructions and samples, `scores.npz` what each test image scored, `diagnostics.json` what was found of its
posterior, `failure.json` why it failed. `metrics.json` comes last: with it the run is finished. `vae-flows evaluate`
adds `evaluation-*-samples.json`, with scores beside it, or diagnostics that are missing.
Folders of earlier releases have no scores; they are read all the same.

`format` in `settings.json` says how a folder is laid out, `version` which release wrote it. Folders of format 1, which
do not say so, hold the best weights in `best.ckpt`; they are read, and continued. A later format is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from vae_flows.data.load import FILE_LOADERS, LOADERS
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.persistence.files import exclusive
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import differences
from vae_flows.runs.settings import RunSettings, from_settings_json, to_settings_json
from vae_flows.training.told import SETTINGS, TrainingDescription

__all__ = [
    "EPOCHS",
    "FAILURE",
    "IMAGES",
    "LAST",
    "LOCK_SECONDS",
    "LOG",
    "METRICS",
    "SCORES",
    "SETTINGS",
    "data_name",
    "folder_of",
    "load_settings",
    "name_of_data",
    "prepare",
    "run_folder",
]

METRICS, FAILURE, LOG, IMAGES = "metrics.json", "failure.json", "log.txt", "images.npz"
LAST, EPOCHS, SCORES = "last.ckpt", "metrics.csv", "scores.npz"
LOCK_SECONDS = 2.0
"""How long a folder is waited for: a run whose parent was killed is about to end, too."""


def folder_of(root: Path, settings: RunSettings) -> Path:
    """Return the folder of a run below that of its grid: `<root>/<data>/<posterior>/seed-<n>`."""
    return run_folder(root, data_name(settings), settings.posterior, settings.seed)


def run_folder(root: Path, data: str, posterior: str, seed: int) -> Path:
    """Return the folder of a run by its names; characters that some file system refuses become hyphens.

    Example:
        >>> run_folder(Path("runs"), "mnist-static", "zuko:NSF", 1).as_posix()
        'runs/mnist-static/zuko-NSF/seed-1'
    """
    return root / data / re.sub(r"[^\w.-]", "-", posterior) / f"seed-{seed}"


def data_name(settings: RunSettings | TrainingDescription) -> str:
    """Return the data set's name; of a user's file or folder, its own name without where it lies."""
    return name_of_data(settings.data)


def name_of_data(data: str) -> str:
    """Return what folders and tables call data that are given by name or path.

    A file or folder that is called like one of the data sets of the literature is not that.

    Example:
        >>> [name_of_data(data) for data in ("omniglot", "lab/cells.npz", "faces.v2", "./omniglot.npz", "./omniglot")]
        ['omniglot', 'cells', 'faces.v2', 'omniglot.npz', 'omniglot-folder']
    """
    path = Path(data)
    name = path.stem if path.suffix.lower() in FILE_LOADERS else path.name
    if name == data or name not in LOADERS:
        return name
    return path.name if path.name != name else f"{name}-folder"


def load_settings(folder: Path) -> RunSettings:
    """Read the settings of the run in `folder`.

    Raises:
        DataError: There are none, they are damaged, or of a later format than this release knows.
    """
    path = folder / SETTINGS
    return from_settings_json(read_json(path), path)


def prepare(folder: Path, settings: RunSettings) -> None:
    """Write the settings of a run to its folder, or check that they are those already there.

    Raises:
        InvalidInputError: The folder holds a run with other settings; results of two settings are never mixed. Only
            those of the test may change, as long as the run is not finished; a finished one may lack diagnostics, or
            have some that are not asked for.
        FileError: The folder cannot be made or written to, or another process is at work in it.
    """
    if not (folder / SETTINGS).exists():
        write_json(folder / SETTINGS, to_settings_json(settings))
        return
    found = differences(settings, load_settings(folder))
    finished = (folder / METRICS).exists()
    if finished and found.keys() <= {"evaluation.diagnostics"}:
        return
    if found and not finished and all(name.startswith("evaluation.") for name in found):
        with exclusive(folder, wait=LOCK_SECONDS):  # the test is still to come, and may be another
            write_json(folder / SETTINGS, to_settings_json(settings))
        return
    if found:
        told = ", ".join(f"{name} = {theirs!r} (asked for: {ours!r})" for name, (ours, theirs) in found.items())
        remedy = "Choose another --folder, or remove this one."
        raise InvalidInputError(complaint(str(folder), "a new folder or a run with the same settings", told, remedy))
