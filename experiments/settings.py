"""Everything that defines one run, as frozen records that go to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name
from vae_flows.persistence import configuration
from vae_flows.persistence.configuration import without_lists
from vae_flows.training import ComputeSettings, TrainingSettings

__all__ = [
    "CellSettings",
    "EvaluationSettings",
    "NetworkSettings",
    "differences",
    "from_plain",
    "override",
    "require_number",
    "to_plain",
]

Record = TypeVar("Record")


@dataclass(frozen=True)
class NetworkSettings:
    """Encoder and decoder.

    Arguments:
        kind: `"conv"`, the benchmark's gated convolutions, or `"mlp"`, gated dense layers.
        hidden_dims: Widths of the encoder's hidden layers; the decoder has them in reverse. Only for `"mlp"`.
        context_dim: Number of features that the encoder emits.
    """

    kind: Literal["conv", "mlp"] = "conv"
    hidden_dims: tuple[int, ...] = ()
    context_dim: int = 256

    def __post_init__(self) -> None:
        if self.kind not in ("conv", "mlp"):
            raise unknown_name("network kind", str(self.kind), ("conv", "mlp"))
        require_positive("NetworkSettings", context_dim=self.context_dim)
        if not isinstance(self.hidden_dims, tuple):
            raise InvalidInputError(complaint("NetworkSettings hidden_dims", "widths", repr(self.hidden_dims)))
        for width in self.hidden_dims:
            require_positive("NetworkSettings hidden_dims", width=width)


@dataclass(frozen=True)
class EvaluationSettings:
    """The test.

    Arguments:
        importance_samples: Samples an image for −log p(x); 0 leaves it out.
        chunk_size: Samples at once, `None` for all.
        batch_size: Images at once.
    """

    importance_samples: int = 0
    chunk_size: int | None = None
    batch_size: int = 100

    def __post_init__(self) -> None:
        samples = self.importance_samples
        if not is_integer(samples) or samples < 0:
            expected = "an integer of at least 0"
            raise InvalidInputError(complaint("EvaluationSettings importance_samples", expected, repr(samples)))
        require_positive("EvaluationSettings", batch_size=self.batch_size)
        if self.chunk_size is not None:
            require_positive("EvaluationSettings", chunk_size=self.chunk_size)


@dataclass(frozen=True)
class CellSettings:
    """One cell of the grid: what to train, on what, how, and how to test it.

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
        max_images: Use only that many images of each split.
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

    def __post_init__(self) -> None:
        for name in ("data", "posterior"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InvalidInputError(complaint(f"CellSettings {name}", "a name", repr(getattr(self, name))))
        if not isinstance(self.posterior_options, Mapping):
            expected = "a mapping of the flow's options"
            raise InvalidInputError(complaint("CellSettings posterior_options", expected, repr(self.posterior_options)))
        object.__setattr__(self, "posterior_options", without_lists(self.posterior_options))
        parts = {
            "network": NetworkSettings,
            "training": TrainingSettings,
            "compute": ComputeSettings,
            "evaluation": EvaluationSettings,
        }
        for name, kind in parts.items():
            if not isinstance(getattr(self, name), kind):
                raise InvalidInputError(complaint(f"CellSettings {name}", kind.__name__, repr(getattr(self, name))))
        require_positive("CellSettings", latent_dim=self.latent_dim)
        if self.max_images is not None:
            require_positive("CellSettings", max_images=self.max_images)
        if self.split_seed is not None and not (is_integer(self.split_seed) and 0 <= self.split_seed < 2**32):
            expected = "an integer from 0 to 2**32 - 1, or None"
            raise InvalidInputError(complaint("CellSettings split_seed", expected, repr(self.split_seed)))
        if self.pixels not in (None, "binary", "grey"):
            raise InvalidInputError(complaint("CellSettings pixels", "'binary', 'grey' or None", repr(self.pixels)))
        if self.data_path is not None and not isinstance(self.data_path, str):
            raise InvalidInputError(complaint("CellSettings data_path", "a path or None", repr(self.data_path)))
        self._check_variance_bounds()

    def _check_variance_bounds(self) -> None:
        bounds = self.variance_bounds
        if bounds is None:
            return
        if not isinstance(bounds, tuple) or len(bounds) != 2:
            raise InvalidInputError(complaint("CellSettings variance_bounds", "least and greatest", repr(bounds)))
        least, greatest = bounds
        require_number("CellSettings", "variance_bounds, the least", least, above=0.0)
        require_number("CellSettings", "variance_bounds, the greatest", greatest, above=float(least))

    @property
    def seed(self) -> int:
        """The seed of initial weights, batches and draws."""
        return self.training.seed


def require_number(owner: str, name: str, value: object, *, above: float = -math.inf, least: float = -math.inf) -> None:
    """Check that a value is a finite number, above one bound and at least the other.

    Raises:
        InvalidInputError: It is not; the message names it.

    Example:
        >>> require_number("settings", "rate", float("nan"), above=0.0)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: settings rate: expected a finite number above 0, got nan.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value <= above
        or value < least
    ):
        bound = f"above {above:g}" if above > -math.inf else f"of at least {least:g}"
        raise InvalidInputError(complaint(f"{owner} {name}", f"a finite number {bound}", repr(value)))


def to_plain(value: Any) -> Any:
    """Turn records into what JSON knows: dicts, lists, numbers, strings, `None`.

    Example:
        >>> to_plain(NetworkSettings("mlp", (300, 200), 64))
        {'kind': 'mlp', 'hidden_dims': [300, 200], 'context_dim': 64}
    """
    return configuration.to_plain(value, _fields)


def from_plain(kind: type[Record], plain: Any) -> Record:
    """Build a record of class `kind` from what `to_plain` made; fields that are absent take their defaults.

    Raises:
        InvalidInputError: A field is unknown or a required one is missing.

    Example:
        >>> from_plain(NetworkSettings, {"kind": "mlp", "hidden_dims": [300]}).hidden_dims
        (300,)
    """
    if not isinstance(plain, Mapping):
        raise InvalidInputError(complaint(kind.__name__, "a mapping of its fields", repr(plain)))
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        remedy = "Was it written by another version?"
        raise InvalidInputError(
            complaint(kind.__name__, f"fields among {', '.join(hints)}", ", ".join(unknown), remedy)
        )
    try:
        return kind(**{name: _restore(hints[name], value) for name, value in plain.items()})
    except TypeError as error:
        raise InvalidInputError(complaint(kind.__name__, "all of its required fields", str(error))) from None


def differences(ours: CellSettings, theirs: CellSettings) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two cells differ, by dotted name, ours before theirs.

    Example:
        >>> differences(CellSettings("mnist-static", "planar", latent_dim=32), CellSettings("mnist-static", "planar"))
        {'latent_dim': (32, 64)}
    """
    left, right = dict(_flatten(to_plain(ours))), dict(_flatten(to_plain(theirs)))
    names = dict.fromkeys([*left, *right])
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def override(settings: CellSettings, assignments: Iterable[str]) -> CellSettings:
    """Change settings by assignments to their dotted names.

    Arguments:
        settings: What to start from.
        assignments: `name=value`, the value being JSON or else taken as a word.

    Raises:
        InvalidInputError: An assignment has no `=`, or a record does not take the value.
        UnknownNameError: There is no such setting.

    Example:
        >>> settings = CellSettings("mnist-static", "ffjord")
        >>> settings = override(settings, ["network.kind=mlp", "network.hidden_dims=[300]", "posterior_options.rank=8"])
        >>> settings.network.hidden_dims, settings.posterior_options
        ((300,), {'rank': 8})
    """
    plain = to_plain(settings)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidInputError(complaint("setting", "name=value", repr(assignment)))
        _assign(plain, name, _parse(text))
    return from_plain(CellSettings, plain)


def _assign(plain: dict[str, Any], name: str, value: Any) -> None:
    """Set the entry with this dotted name; only options of flows, which have names of their own, may be new."""
    *outer, last = name.split(".")
    may_be_new = outer[:1] == ["posterior_options"]
    record: Any = plain
    for key in outer:
        record = record.setdefault(key, {}) if may_be_new else record.get(key)
        if not isinstance(record, dict):
            break
    if not isinstance(record, dict) or (last not in record and not may_be_new):
        raise unknown_name("setting", name, [known for known, _ in _flatten(plain)])
    record[last] = value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _flatten(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _restore(hint: Any, value: Any) -> Any:
    """Give a plain value the type that its field is annotated with, as far as JSON lost it."""
    if value is None:
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value)
    element, *_ = typing.get_args(hint) or (None,)
    if typing.get_origin(hint) is tuple and isinstance(value, list) and dataclasses.is_dataclass(element):
        return tuple(_restore(element, item) for item in value)
    return without_lists(value)


def _fields(record: Any) -> dict[str, Any]:
    return {entry.name: to_plain(getattr(record, entry.name)) for entry in dataclasses.fields(record)}
