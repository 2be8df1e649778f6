"""Table, picture and numbers of several finished runs: small files, fit to be committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.density.picture import read_picture
from experiments.density.plots import plot_densities
from experiments.density.run import ARRAYS, METRICS
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.reporting import Table
from vae_flows.reporting.plots import to_png
from vae_flows.reporting.tables import Entry

__all__ = ["densities_table", "describe_setting", "without_history", "write_densities"]

JSON, MARKDOWN, PICTURE = "density.json", "density.md", "density.png"
COLUMNS = (
    "data",
    "test −log p(x) (nats)",
    "true density",
    "excess",
    "evaluations / solve",
    "evaluations in training",
    "seconds",
    "of a processor",
)


def densities_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate what the `metrics.json` of several runs hold, one row per run."""
    return Table("Toy densities learned by maximum likelihood", COLUMNS, tuple(map(_row, records)), _notes(records))


def write_densities(folders: Sequence[Path], destination: Path) -> tuple[Table, tuple[Path, ...]]:
    """Write `density.json`, `density.md` and `density.png` of finished runs, and return the table and the paths.

    Arguments:
        folders: The runs.
        destination: Where to write.

    Raises:
        DataError: A folder does not hold a finished run with its picture.
    """
    records = [read_json(folder / METRICS) for folder in folders]
    pictures = {
        record["settings"]["data"]: read_picture(folder / ARRAYS)
        for record, folder in zip(records, folders, strict=True)
    }
    table = densities_table(records)
    files: dict[str, bytes | str] = {
        JSON: to_lines("runs", map(without_history, records)),
        MARKDOWN: table.to_markdown(),
        PICTURE: to_png(plot_densities(pictures)),
    }
    return table, write_files(destination, files)


def without_history(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's record without the course of its training, which is most of it."""
    training = {name: value for name, value in record["training"].items() if not isinstance(value, list)}
    return {**record, "training": training}


def describe_setting(records: Sequence[Mapping[str, Any]]) -> str:
    """Word the flow and the training that the runs share, and where they took place."""
    settings, hardware = records[0]["settings"], records[0]["hardware"]
    return (
        f"Hidden layers {'-'.join(map(str, settings['hidden_dims']))}, {settings['activation']}, "
        f"{settings['steps']} steps of {settings['batch_size']} points, tolerance {settings['tolerance']:g} in "
        f"training with the {settings['divergence']} trace, {settings['test_tolerance']:g} in the test with the exact "
        f"one; "
        f"{hardware['processor']}, {hardware['threads']} of {hardware['cores']} cores."
    )


def _row(record: Mapping[str, Any]) -> tuple[Entry, ...]:
    test, training = record["test"], record["training"]
    texts = (
        record["settings"]["data"],
        f"{test['negative_log_likelihood']:.3f} ± {test['standard_error']:.3f}",
        f"{test['true_negative_log_likelihood']:.3f}",
        f"{test['excess']:.3f} ± {test['excess_standard_error']:.3f}",
        f"{test['evaluations_per_solve']:.0f}",
        f"{training['forward_evaluations']:,}",
        f"{record['seconds']:.0f}",
        f"{record['processor_seconds']:.0f}",
    )
    return tuple(map(Entry, texts))


def _notes(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    excess = (
        f"Excess: −log p of the model less that of the true density on the same {records[0]['test']['points']:,} "
        "points, an estimate of their Kullback-Leibler divergence; ± standard error. Seconds are those of training, "
        "test and picture together; those of a processor leave out the time that other programs had it."
    )
    return excess, describe_setting(records)
