"""A run as an object: its settings, its progress, what it came to, and its model and data."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from vae_flows.checks import check_argument
from vae_flows.errors import (
    CheckpointError,
    DataError,
    FileError,
    InvalidInputError,
    complaint,
    require_number,
    unknown_name,
)
from vae_flows.evaluation import EvaluationResult
from vae_flows.evaluation.units import NATS, Unit
from vae_flows.persistence.files import checked_path, read_file
from vae_flows.persistence.json_files import read_json
from vae_flows.persistence.records import checked_record
from vae_flows.persistence.saved_models import CONFIG_FILE
from vae_flows.reporting.summaries import RunResult
from vae_flows.runs.build import build_data, build_vae
from vae_flows.runs.diagnosis import RunDiagnostics, read_diagnostics
from vae_flows.runs.evaluations import RunEvaluation, evaluation_name, find_evaluations
from vae_flows.runs.folder import EPOCHS, FAILURE, LAST, METRICS, SCORES, SETTINGS, data_name, load_settings
from vae_flows.runs.scores import RunScores, read_scores
from vae_flows.runs.settings import RunSettings
from vae_flows.shown import html_table, shown
from vae_flows.training import EpochRecord, load_weights
from vae_flows.training.checkpoint import EARLIER_BEST
from vae_flows.training.told import TRAINING, TrainingDescription, load_description

if TYPE_CHECKING:
    from vae_flows.data import DataSet
    from vae_flows.vae import VAE

__all__ = ["Run", "RunHistory", "RunMetrics", "is_run"]

MAX_LOG_BYTES = 2**26
Which = Literal["best", "last"]
WEIGHTS = ("best", "last")
SHOWN_EPOCHS = 20
AVERAGING_ERROR = 1e-6
"""Relative, of an average in another order than that of the metrics."""


@dataclass(frozen=True)
class RunHistory(Sequence[EpochRecord]):
    """The records of a run's epochs, in order.

    Arguments:
        records: One for each epoch.

    Example:
        >>> record = EpochRecord(1, 1.0, 90.0, 8.0, 95.0, None, None, 100.0, 2.0)
        >>> RunHistory((record,)).to_columns()["validation_negative_elbo"]
        array([95.])
    """

    records: tuple[EpochRecord, ...] = ()

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpochRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> EpochRecord | tuple[EpochRecord, ...]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the epochs, those in the middle of a long run left out."""
        names = [column.name for column in fields(EpochRecord)]
        rows = [[getattr(record, name) for name in names] for record in self.records]
        if len(rows) > SHOWN_EPOCHS:
            half = SHOWN_EPOCHS // 2
            rows = [*rows[:half], ["…"] * len(names), *rows[-half:]]
        return html_table(names, rows, f"{len(self)} epochs")

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return an array for each field, which `pandas.DataFrame` and `polars.DataFrame` take; NaN for `None`."""
        return {
            column.name: np.array([_or_nan(getattr(record, column.name)) for record in self.records])
            for column in fields(EpochRecord)
        }


@shown
@dataclass(frozen=True)
class RunMetrics:
    """What a finished run came to.

    Arguments:
        test: Bounds of the test examples, in nats per example.
        unit: Unit in which the literature reports this kind of data, `"nats"` or `"bits/dim"`.
        nats_per_unit: How many nats that is.
        nats_at_zero: The bound in nats that is 0 in that unit.
        best_epoch: The epoch whose weights were tested.
        stopped_early: Whether patience ran out.
        training_seconds: Wall-clock time of all epochs.
        parameters: Number of learned values in the whole VAE.
        posterior_parameters: Of them in the posterior.
        versions: Of Python and the packages that numbers depend on.
        hardware: Processor, cores, threads and accelerators.
        commit: Commit of the code, `None` outside a checkout.
    """

    test: EvaluationResult
    unit: str
    nats_per_unit: float
    best_epoch: int
    stopped_early: bool
    training_seconds: float
    parameters: int
    posterior_parameters: int
    versions: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    hardware: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    commit: str | None = None
    nats_at_zero: float = 0.0

    def __post_init__(self) -> None:
        require_number("RunMetrics", "nats_per_unit", self.nats_per_unit, above=0.0)

    def in_unit(self, nats: float) -> float:
        """Return a bound in `unit`, from nats per example."""
        return Unit(self.unit, self.nats_per_unit, self.nats_at_zero).of(nats)


class Run:
    """A run that `vae-flows train`, `vae-flows benchmark` or `vf.training.train` made, or is still at work on.

    Everything is read from the folder when it is asked for, so that one object follows a training.

    Arguments:
        folder: The folder of the run, which holds `settings.json`, or `training.json` of a training in Python.

    Raises:
        DataError: The folder holds no run.

    Example:
        >>> import tempfile
        >>> from vae_flows.benchmark.presets import PRESETS
        >>> from vae_flows.runs.folder import prepare
        >>> folder = Path(tempfile.mkdtemp())
        >>> prepare(folder, PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0))
        >>> run = Run(folder)
        >>> run.status, run.settings.posterior, len(run.history), run.metrics
        ('unfinished', 'planar', 0, None)
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = checked_path(folder, "folder of a run")
        if not is_run(self.folder):
            expected, remedy = (
                f"the folder of a run, with {SETTINGS} or {TRAINING}",
                "A benchmark has one for each run, below its own.",
            )
            raise DataError(complaint(f"run {self.folder}", expected, "none", remedy))

    def __repr__(self) -> str:
        settings, status = self.settings, self.status
        epochs = len(self.history)
        return (
            f"Run({str(self.folder)!r}: {settings.posterior} on {settings.data}, seed {settings.seed}, "
            f"{epochs} epoch{'' if epochs == 1 else 's'}, {status})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what was trained, how far it is, and how good."""
        settings, history, metrics = self.settings, self.history, self.metrics
        told: dict[str, Any] = {"data": settings.data, "posterior": settings.posterior, "seed": settings.seed}
        told |= {"folder": str(self.folder), "status": self.status, "epochs": len(history)}
        if history:
            told["best validation −ELBO (nats)"] = min(record.validation_negative_elbo for record in history)
        if metrics is not None:
            told[f"test −ELBO ({metrics.unit})"] = metrics.in_unit(metrics.test.negative_elbo)
        return html_table(("", "Run"), told.items())

    @property
    def settings(self) -> RunSettings | TrainingDescription:
        """Everything that defines the run; of a training in Python, what can be written down of it."""
        return load_settings(self.folder) if (self.folder / SETTINGS).exists() else load_description(self.folder)

    @property
    def status(self) -> Literal["finished", "failed", "unfinished"]:
        """Whether it has its results, failed, or is neither yet."""
        if (self.folder / METRICS).exists():
            return "finished"
        return "failed" if (self.folder / FAILURE).exists() else "unfinished"

    @property
    def history(self) -> RunHistory:
        """The records of the epochs so far.

        Raises:
            DataError: The table of epochs is damaged.
        """
        path = self.folder / EPOCHS
        try:
            text = read_file(path, limit=MAX_LOG_BYTES).decode()
        except FileError as error:
            if path.exists():
                raise
            del error
            return RunHistory()
        except UnicodeDecodeError as error:
            raise DataError(complaint(str(path), "a table of epochs", f"something else: {error}")) from None
        return RunHistory(tuple(_to_record(path, row) for row in csv.DictReader(io.StringIO(text))))

    @property
    def metrics(self) -> RunMetrics | None:
        """What the run came to, `None` before it is finished.

        Raises:
            DataError: `metrics.json` is not what a run writes.
        """
        path = self.folder / METRICS
        if not path.exists():
            return None
        plain = read_json(path)
        try:
            plain = {"nats_at_zero": 0.0, **plain}  # which earlier releases do not write
            return checked_record(RunMetrics, {entry.name: plain[entry.name] for entry in fields(RunMetrics)})
        except (KeyError, TypeError, InvalidInputError) as error:
            got = f"others ({type(error).__name__}: {error})"
            raise DataError(complaint(str(path), "the metrics of a finished run", got)) from None

    @property
    def scores(self) -> RunScores | None:
        """What each test image scored, `None` before the run is finished and of runs of earlier releases.

        Raises:
            DataError: The scores are damaged, or are not those that the metrics average.
        """
        metrics, path = self.metrics, self.folder / SCORES
        if metrics is None or not path.exists():
            return None
        found = read_scores(path)
        mean, told = float(found.negative_elbo.mean()), metrics.test.negative_elbo
        if not math.isclose(mean, told, rel_tol=AVERAGING_ERROR):
            expected, remedy = f"scores whose average is that of {METRICS}, {told}", "Remove it."
            raise DataError(complaint(str(path), expected, mean, remedy))
        return found

    @property
    def evaluations(self) -> tuple[RunEvaluation, ...]:
        """What `vae-flows evaluate` found later, by rising numbers of draws.

        Raises:
            DataError: One is damaged.
        """
        return find_evaluations(self.folder)

    def evaluation_scores(self, evaluation: RunEvaluation) -> RunScores | None:
        """Return what each test image scored in a later test, `None` where it was not kept.

        Raises:
            DataError: The scores are damaged.
        """
        check_argument("Run.evaluation_scores evaluation", evaluation, RunEvaluation)
        path = self.folder / f"{evaluation_name(evaluation.importance_samples)}.npz"
        return read_scores(path) if path.exists() else None

    @property
    def diagnostics(self) -> RunDiagnostics | None:
        """What `vae-flows evaluate --diagnostics` found, `None` where it was not asked.

        Raises:
            DataError: It is damaged.
        """
        return read_diagnostics(self.folder)

    def to_record(self) -> RunResult:
        """Return the numbers of which tables and figures are made, an unfinished run's curve in nats.

        Raises:
            DataError: The table of epochs or the metrics are damaged.
        """
        settings, metrics, history = self.settings, self.metrics, self.history
        try:
            return self._record(settings, metrics, history)
        except (InvalidInputError, TypeError, ArithmeticError) as error:
            expected, got = "the metrics of a finished run", f"others ({type(error).__name__}: {error})"
            raise DataError(complaint(str(self.folder / METRICS), expected, got)) from None

    def _record(
        self, settings: RunSettings | TrainingDescription, metrics: RunMetrics | None, history: RunHistory
    ) -> RunResult:
        in_unit = metrics.in_unit if metrics else NATS.of
        test = metrics.test if metrics else None
        likelihood = test.negative_log_likelihood if test else None
        return RunResult(
            data=data_name(settings),
            posterior=settings.posterior,
            seed=settings.seed,
            status=self.status,
            unit=metrics.unit if metrics else "nats",
            negative_elbo=in_unit(test.negative_elbo) if test else None,
            negative_log_likelihood=None if likelihood is None else in_unit(likelihood),
            evaluations_per_solve=test.evaluations_per_solve if test else None,
            seconds_per_epoch=sum(epoch.seconds for epoch in history) / len(history) if history else None,
            parameters=metrics.parameters if metrics else None,
            curve=tuple(in_unit(epoch.validation_negative_elbo) for epoch in history),
            epoch_seconds=tuple(epoch.seconds for epoch in history),
            epoch_evaluations=tuple(
                epoch.evaluations_per_solve for epoch in history if epoch.evaluations_per_solve is not None
            ),
        )

    def load_data(self) -> DataSet:
        """Load the data set that the run was trained on, from its name or path.

        Raises:
            DataError: The data are not where they were, or were an object of a training in Python.
        """
        settings = self.settings
        if isinstance(settings, TrainingDescription):
            expected, got = "one that is named by a name or path", f"an object, {settings.data!r}, of a program's own"
            raise DataError(
                complaint(f"data of run {self.folder}", expected, got, "Make it again as that program did.")
            )
        return build_data(settings)

    def load_model(self, which: Which = "best", **parts: Any) -> VAE:
        """Build the model, with the weights of the best epoch or of the latest, in evaluation mode on the CPU.

        Arguments:
            which: `"best"` or `"last"`.
            **parts: Objects for parts whose class is not registered, such as `encoder`; see `VAE.from_pretrained`.

        Raises:
            CheckpointError: There are no weights yet, they are damaged, belong to another model, or a part has to be
                passed.
        """
        check_argument("Run.load_model which", which, str)
        if which not in WEIGHTS:
            raise unknown_name("weights", which, WEIGHTS)
        if not any((self.folder / name).exists() for name in (CONFIG_FILE, EARLIER_BEST)):
            remedy = "Weights are there once the first epoch is over."
            raise CheckpointError(complaint(f"run {self.folder}", f"a saved model, {CONFIG_FILE}", "none", remedy))
        vae = self._built(parts)
        if which == "last":
            load_weights(vae, self.folder / LAST)
        return vae.eval()

    def _built(self, parts: Mapping[str, Any]) -> VAE:
        if (self.folder / CONFIG_FILE).exists():
            from vae_flows.vae import VAE

            return VAE.from_pretrained(self.folder, **parts)
        settings = self.settings
        if isinstance(settings, TrainingDescription) or parts:
            raise CheckpointError(complaint(f"run {self.folder}", f"a saved model, {CONFIG_FILE}", "none"))
        vae = build_vae(settings, build_data(settings))
        load_weights(vae, self.folder)
        return vae


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run."""
    return any((folder / name).exists() for name in (SETTINGS, TRAINING))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _to_record(path: Path, row: Mapping[str, Any]) -> EpochRecord:
    """Read one line of the table that training writes, with floats at full precision."""
    try:
        columns = [column.name for column in fields(EpochRecord) if column.name in row or column.default is MISSING]
        values: dict[str, Any] = {name: row[name] for name in columns}
        for name, text in values.items():
            kind = int if name in ("epoch", "forward_evaluations") else float
            values[name] = kind(text) if text else None
        return EpochRecord(**values)
    except (KeyError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise DataError(complaint(str(path), "one line for each epoch", f"others ({told})")) from None
