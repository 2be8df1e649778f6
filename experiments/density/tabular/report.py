"""Table and numbers of several densities of one or more tables: small files, fit to be committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.density.tabular.run import METRICS
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.reporting import Table
from vae_flows.reporting.tables import Entry

__all__ = ["tables_table", "write_tables"]

JSON, MARKDOWN = "tabular.json", "tabular.md"
COLUMNS = ("data", "density", "test −log p(x) (nats)", "parameters", "steps", "processor seconds")
PUBLISHED_COLUMN = "published, FFJORD"
NAMES = {"gaussian": "Gaussian", "cnf": "continuous flow", "spline": "spline flow of zuko"}


def tables_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate what the `metrics.json` of several runs hold, one row per run.

    The numbers of the FFJORD paper stand beside those of its tables, where there are any.
    """
    published = any(record["published"] is not None for record in records)
    columns = (*COLUMNS, PUBLISHED_COLUMN) if published else COLUMNS
    rows = tuple(_row(record, published=published) for record in records)
    return Table(
        "Densities of tables learned by maximum likelihood", columns, rows, _notes(records, published=published)
    )


def write_tables(folders: Sequence[Path], destination: Path) -> tuple[Table, tuple[Path, ...]]:
    """Write `tabular.json` and `tabular.md` of finished runs, and return the table and the paths.

    Raises:
        DataError: A folder does not hold a finished run.
    """
    records = [read_json(folder / METRICS) for folder in folders]
    table = tables_table(records)
    return table, write_files(destination, {JSON: to_lines("runs", records), MARKDOWN: table.to_markdown()})


def _row(record: Mapping[str, Any], *, published: bool) -> tuple[Entry, ...]:
    test, training = record["test"], record["training"]
    trained = bool(training["steps"])
    texts = [
        record["data"]["name"],
        NAMES[record["settings"]["model"]],
        f"{test['negative_log_likelihood']:.2f} ± {test['standard_error']:.2f}",
        f"{record['parameters']:,}",
        f"{training['steps']:,}" if trained else "",
        f"{training['seconds']:.0f}" if trained else "",
    ]
    if published:
        given = record["published"] if record["settings"]["model"] == "cnf" else None
        texts.append("" if given is None else f"{given:.2f}")
    return tuple(map(Entry, texts))


def _notes(records: Sequence[Mapping[str, Any]], *, published: bool) -> tuple[str, ...]:
    settings, hardware, versions = records[0]["settings"], records[0]["hardware"], records[0]["versions"]
    tables = {record["data"]["name"]: record for record in records}
    sizes = "; ".join(
        f"{name}: {record['dim']} columns, {' / '.join(f'{count:,}' for count in record['data']['rows'])} rows, "
        f"{record['test']['rows']:,} of the test scored"
        for name, record in tables.items()
    )
    hidden = "-".join(map(str, settings["hidden_dims"]))
    notes = [
        "Of values standardised, or prepared as published; ± standard error over rows. The Gaussian is the maximum of "
        f"the likelihood in closed form. Each flow trains for at most {settings['seconds']:g} seconds of a processor, "
        f"less where {settings['patience']} validations in a row bring nothing better, and is tested with its best "
        "weights.",
        f"Rows to fit / to stop by / of the test. {sizes}.",
        f"Hidden layers {hidden}, batches of {settings['batch_size']}, learning rate {settings['learning_rate']:g}, "
        f"tolerance {settings['tolerance']:g} in training with the Hutchinson trace, {settings['test_tolerance']:g} in "
        f"the test with the exact one; {settings['num_transforms']} transforms of the NSF of zuko {versions['zuko']}; "
        f"seed {settings['seed']}; {hardware['processor']}, {hardware['threads']} of {hardware['cores']} cores.",
    ]
    if published:
        notes.append("Published: Grathwohl et al. (2019), table 2, with larger flows and without a limit of time.")
    return tuple(notes)
