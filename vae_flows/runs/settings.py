"""Everything that defines one run, as frozen records that go to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vae_flows.data.images import is_integer
from vae_flows.errors import DataError, InvalidInputError, complaint, require_number, require_positive, unknown_name
from vae_flows.networks import LARGE_MODEL
from vae_flows.persistence.configuration import settled
from vae_flows.persistence.records import flatten, from_plain, to_plain
from vae_flows.training import ComputeSettings, TrainingSettings
from vae_flows.version import __version__

__all__ = [
    "EvaluationSettings",
    "NetworkSettings",
    "RunSettings",
    "from_settings_json",
    "to_settings_json",
    "with_changes",
]

FORMAT = 2
"""Of a run's folder; folders that do not say theirs are of format 1."""

WITH_OPTIONS = frozenset({"posterior", "likelihood", "training.optimizer", "training.schedule", "training.objective"})
"""Settings that name something whose options are a setting beside them."""


@dataclass(frozen=True)
class NetworkSettings:
    """Encoder and decoder.

    Arguments:
        kind: `"conv"`, the benchmark's gated convolutions, `"mlp"`, gated dense layers, or `"auto"`, what fits the
            data: convolutions for pictures, dense layers for vectors.
        hidden_dims: Widths of the encoder's dense layers; the decoder has them in reverse.
        context_dim: Number of features that the encoder emits.
        max_parameters: A model of more is refused.
    """

    kind: Literal["auto", "conv", "mlp"] = "auto"
    hidden_dims: tuple[int, ...] = ()
    context_dim: int = 256
    max_parameters: int = LARGE_MODEL

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in ("auto", "conv", "mlp"):
            raise unknown_name("network kind", str(self.kind), ("auto", "conv", "mlp"))
        require_positive("NetworkSettings", context_dim=self.context_dim, max_parameters=self.max_parameters)
        if not isinstance(self.hidden_dims, tuple):
            raise InvalidInputError(complaint("NetworkSettings hidden_dims", "widths", repr(self.hidden_dims)))
        for width in self.hidden_dims:
            require_positive("NetworkSettings hidden_dims", width=width)


@dataclass(frozen=True)
class EvaluationSettings:
    """The test.

    Arguments:
        importance_samples: Samples per image for −log p(x); 0 leaves it out.
        chunk_size: Samples at once, `None` for all.
        batch_size: Images at once.
        diagnostics: Whether the posterior is diagnosed too, on a few images: some seconds, or a minute for a slow flow.
    """

    importance_samples: int = 0
    chunk_size: int | None = None
    batch_size: int = 100
    diagnostics: bool = False

    def __post_init__(self) -> None:
        samples = self.importance_samples
        if not is_integer(samples) or samples < 0:
            expected = "an integer of at least 0"
            raise InvalidInputError(complaint("EvaluationSettings importance_samples", expected, repr(samples)))
        require_positive("EvaluationSettings", batch_size=self.batch_size)
        if self.chunk_size is not None:
            require_positive("EvaluationSettings", chunk_size=self.chunk_size)
        if not isinstance(self.diagnostics, bool):
            raise InvalidInputError(
                complaint("EvaluationSettings diagnostics", "True or False", repr(self.diagnostics))
            )


@dataclass(frozen=True)
class RunSettings:
    """One run: what to train, on what, how, and how to test it.

    Arguments:
        data: Name of the data set.
        posterior: Name of the posterior's flow.
        posterior_options: Options of the flow; a mapping under `"solver"` gives the fields of an `ODESolver`.
        latent_dim: Size of the latent vectors.
        variance_bounds: Least and greatest variance of the base Gaussian, or no bounds.
        network: Encoder and decoder.
        training: Training, its seed being the seed of the whole run.
        compute: Device, precision, processes.
        evaluation: The test.
        split_seed: Seed of the split, for data sets without an official one.
        pixels: `"binary"` or `"grey"`, or what the data set is by default.
        data_path: The data file or folder, for data sets that do not come with the package.
        max_images: Use only that many examples of each split.
        likelihood: Name of the likelihood, `None` for the usual one of the data: Bernoulli for binary pixels, 256
            levels for grey ones, discretised logistic for colour, a Gaussian with learned deviations for real values.
        likelihood_options: Options of a likelihood that is named.
        standardize: Whether the model sees (x − mean) / standard deviation of the training part.
        label_column: The column of labels in a `.csv` file.
    """

    data: str
    posterior: str
    posterior_options: Mapping[str, Any] = field(default_factory=dict)
    latent_dim: int = 64
    variance_bounds: tuple[float, float] | None = None
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    split_seed: int | None = None
    pixels: Literal["binary", "grey"] | None = None
    data_path: str | None = None
    max_images: int | None = None
    likelihood: str | None = None
    likelihood_options: Mapping[str, Any] = field(default_factory=dict)
    standardize: bool = False
    label_column: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.data, str) and self.data and Path(self.data).name in ("", ".."):
            # Such a path has no name of its own.
            object.__setattr__(self, "data", str(Path(self.data).resolve()))
        for name in ("data", "posterior"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InvalidInputError(complaint(f"RunSettings {name}", "a name", repr(getattr(self, name))))
        for name in ("posterior_options", "likelihood_options"):
            options = getattr(self, name)
            if not isinstance(options, Mapping):
                raise InvalidInputError(complaint(f"RunSettings {name}", "a mapping of options", repr(options)))
            object.__setattr__(self, name, settled(options))
        parts = {
            "network": NetworkSettings,
            "training": TrainingSettings,
            "compute": ComputeSettings,
            "evaluation": EvaluationSettings,
        }
        for name, kind in parts.items():
            if not isinstance(getattr(self, name), kind):
                raise InvalidInputError(complaint(f"RunSettings {name}", kind.__name__, repr(getattr(self, name))))
        require_positive("RunSettings", latent_dim=self.latent_dim)
        if self.max_images is not None:
            require_positive("RunSettings", max_images=self.max_images)
        if self.split_seed is not None and not (is_integer(self.split_seed) and 0 <= self.split_seed < 2**32):
            expected = "an integer from 0 to 2**32 - 1, or None"
            raise InvalidInputError(complaint("RunSettings split_seed", expected, repr(self.split_seed)))
        if self.pixels is not None and not (isinstance(self.pixels, str) and self.pixels in ("binary", "grey")):
            raise InvalidInputError(complaint("RunSettings pixels", "'binary', 'grey' or None", repr(self.pixels)))
        for name, kind in (("data_path", "a path"), ("likelihood", "a name"), ("label_column", "a name")):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InvalidInputError(complaint(f"RunSettings {name}", f"{kind} or None", repr(value)))
        if not isinstance(self.standardize, bool):
            raise InvalidInputError(complaint("RunSettings standardize", "True or False", repr(self.standardize)))
        if self.likelihood_options and self.likelihood is None:
            expected, remedy = "none without a likelihood", "Set likelihood too."
            raise InvalidInputError(
                complaint("RunSettings likelihood_options", expected, repr(self.likelihood_options), remedy)
            )
        self._check_variance_bounds()

    def _check_variance_bounds(self) -> None:
        bounds = self.variance_bounds
        if bounds is None:
            return
        if not isinstance(bounds, tuple) or len(bounds) != 2:
            raise InvalidInputError(complaint("RunSettings variance_bounds", "least and greatest", repr(bounds)))
        least, greatest = bounds
        require_number("RunSettings", "variance_bounds, the least", least, above=0.0)
        require_number("RunSettings", "variance_bounds, the greatest", greatest, above=float(least))

    @property
    def seed(self) -> int:
        """The seed of initial weights, batches and draws."""
        return self.training.seed


def to_settings_json(settings: RunSettings) -> dict[str, Any]:
    """Return settings as `settings.json` has them: with the format of the folder, and the release that wrote it.

    Example:
        >>> from pathlib import Path
        >>> plain = to_settings_json(RunSettings("omniglot", "none"))
        >>> plain["format"], from_settings_json(plain, Path("settings.json")).data
        (2, 'omniglot')
    """
    return {"format": FORMAT, "version": __version__, **to_plain(settings)}


def from_settings_json(plain: Any, path: Path) -> RunSettings:
    """Return the settings that `to_settings_json` made, or that an earlier release wrote without a format.

    Arguments:
        plain: What was read.
        path: From where, for messages.

    Raises:
        DataError: It is of a later format.
        InvalidInputError: A setting is unknown, wrong, or required and missing.
    """
    if not isinstance(plain, Mapping):
        return from_plain(RunSettings, plain)
    own = dict(plain)
    written, version = own.pop("format", 1), own.pop("version", None)
    if type(written) is not int or not 1 <= written <= FORMAT:
        got = f"{written!r}, of version {version} of the library"
        remedy = f"Install vae-flows {version}, which wrote it." if isinstance(version, str) else ""
        raise DataError(complaint(str(path), f"a run of format {FORMAT} or earlier", got, remedy))
    return from_plain(RunSettings, own)


def with_changes(
    settings: RunSettings,
    changes: Mapping[str, Any],
    flow_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunSettings:
    """Change settings by their dotted names, which are those of `differences`.

    Options of what is replaced, such as those of a posterior or an optimizer, are left behind.

    Arguments:
        settings: What to start from.
        changes: Values by name.
        flow_options: By posterior, options that change in its runs alone.

    Raises:
        InvalidInputError: A record does not take a value.
        UnknownNameError: There is no such setting.

    Example:
        >>> settings = RunSettings("mnist-static", "ffjord")
        >>> settings = with_changes(settings, {"network.hidden_dims": (300,), "posterior_options.rank": 8})
        >>> settings.network.hidden_dims, settings.posterior_options
        ((300,), {'rank': 8})
        >>> with_changes(settings, {"posterior": "iaf"}, {"iaf": {"num_layers": 2}}).posterior_options
        {'num_layers': 2}
    """
    plain = to_plain(settings)
    known = dict(flatten(plain))
    for name in changes.keys() & WITH_OPTIONS:
        if changes[name] != known[name]:
            _assign(plain, f"{name}_options", {})
    options = (flow_options or {}).get(changes.get("posterior", settings.posterior), {})
    for name, value in {**changes, **{f"posterior_options.{name}": value for name, value in options.items()}}.items():
        _assign(plain, name, to_plain(value))
    return from_plain(RunSettings, plain)


def _assign(plain: dict[str, Any], name: str, value: Any) -> None:
    """Set the entry with this dotted name; only options, which have names of their own, may be new."""
    *outer, last = name.split(".")
    may_be_new = any(part.endswith("_options") for part in outer[:2])
    record: Any = plain
    for key in outer:
        record = record.setdefault(key, {}) if may_be_new else record.get(key)
        if not isinstance(record, dict):
            break
    if not isinstance(record, dict) or (last not in record and not may_be_new):
        raise unknown_name("setting", name, [known for known, _ in flatten(plain)])
    record[last] = value
