"""What `train` was told, as a record beside the checkpoints of a folder that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_flows.checks import check_argument
from vae_flows.errors import DataError, InvalidInputError, complaint
from vae_flows.persistence.configuration import to_plain
from vae_flows.persistence.descriptions import describe_model
from vae_flows.persistence.json_files import read_json, write_json
from vae_flows.persistence.records import from_plain
from vae_flows.protocols import name_of
from vae_flows.training.settings import ComputeSettings, TrainingSettings
from vae_flows.version import __version__

if TYPE_CHECKING:
    from vae_flows.data import DataSet
    from vae_flows.vae import VAE

__all__ = ["SETTINGS", "TRAINING", "TrainingDescription", "load_description", "save_description"]

SETTINGS, TRAINING = "settings.json", "training.json"
FORMAT = 1


@dataclass(frozen=True)
class TrainingDescription:
    """What a training in Python was told; data and model were objects, of which this is what can be written down.

    Arguments:
        data: Name of the data set.
        posterior: Name of the posterior's flow, or of its class.
        training: Its settings.
        compute: Device, precision, processes.
        model: The class of the model and the configuration of its parts.
    """

    data: str
    posterior: str
    training: TrainingSettings
    compute: ComputeSettings
    model: Mapping[str, Any]

    def __post_init__(self) -> None:
        kinds = {"data": str, "posterior": str, "model": Mapping}
        kinds |= {"training": TrainingSettings, "compute": ComputeSettings}
        for name, kind in kinds.items():
            check_argument(f"TrainingDescription {name}", getattr(self, name), kind)

    @property
    def posterior_options(self) -> Mapping[str, Any]:
        """The configuration of the posterior."""
        options = self.model.get("posterior")
        return options if isinstance(options, Mapping) else {}

    @property
    def seed(self) -> int:
        """The seed of batches and draws."""
        return self.training.seed


def save_description(
    folder: Path, vae: VAE, data: DataSet, settings: TrainingSettings, compute: ComputeSettings
) -> None:
    """Write `training.json`, unless the folder is that of a run whose settings say all that there is to say."""
    if (folder / SETTINGS).exists():
        return
    own = {"data": data.name, "posterior": name_of(vae.posterior), "model": describe_model(vae)}
    records = {"training": to_plain(asdict(settings), repr), "compute": to_plain(asdict(compute), repr)}
    write_json(folder / TRAINING, {"format": FORMAT, "version": __version__, **own, **records})


def load_description(folder: Path) -> TrainingDescription:
    """Read `training.json`.

    Raises:
        DataError: There is none, it is damaged, or of a later format than this release knows.
    """
    path = folder / TRAINING
    plain = read_json(path)
    written = plain.get("format") if isinstance(plain, Mapping) else None
    if type(written) is not int or not 1 <= written <= FORMAT:
        got = f"{written!r}, of version {plain.get('version')} of the library" if isinstance(plain, Mapping) else "none"
        raise DataError(complaint(str(path), f"a training of format {FORMAT} or earlier", got))
    try:
        return from_plain(TrainingDescription, {k: v for k, v in plain.items() if k not in ("format", "version")})
    except InvalidInputError as error:
        raise DataError(f"{path}: {error}") from None
