"""Table, pictures and numbers of several finished runs: small files, fit to be committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.images.run import METRICS, SAMPLES
from vae_flows.persistence.archives import read_npz
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.reporting import Table
from vae_flows.reporting.plots import image_grid, to_png
from vae_flows.reporting.plots.looks import looks_of
from vae_flows.reporting.plots.sheets import Plot, add_legend, dress, new_plot, sheet_of
from vae_flows.reporting.tables import Entry

__all__ = ["images_table", "plot_learning", "write_images"]

JSON, MARKDOWN, CURVES = "images.json", "images.md", "images.png"
COLUMNS = (
    "data",
    "flow",
    "test bits/dim",
    "parameters",
    "steps",
    "evaluations / pass",
    "processor seconds",
)
PANEL_INCHES = 3.0


def images_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Tabulate what the `metrics.json` of several runs hold, one row per run."""
    rows = tuple(map(_row, records))
    return Table("Densities of images learned by maximum likelihood", COLUMNS, rows, _notes(records))


def plot_learning(records: Sequence[Mapping[str, Any]]) -> Plot:
    """Draw bits a dimension of validation images against time of training, one panel per data set."""
    names = list(dict.fromkeys(record["settings"]["data"] for record in records))
    looks = looks_of([_flow(record) for record in records])
    sheet = sheet_of("screen")
    figure, panels = new_plot(sheet, PANEL_INCHES, 1, len(names), title="Bits a dimension in equal time")
    shown = {}
    for axes, name in zip(panels.flat, names, strict=True):
        dress(axes, sheet, title=name, x="processor seconds of training", y="validation bits/dim", grid="y")
        for record in (record for record in records if record["settings"]["data"] == name):
            flow, moments = _flow(record), record["training"]["moments"]
            seconds = [moment["seconds"] for moment in moments]
            look = looks[flow]
            (shown[flow],) = axes.plot(
                seconds, [moment["bits_per_dim"] for moment in moments], color=look.colour, linestyle=look.dashes
            )
    add_legend(figure, sheet, list(shown.values()), list(shown))
    return figure


def write_images(folders: Sequence[Path], destination: Path) -> tuple[Table, tuple[Path, ...]]:
    """Write `images.json`, `images.md`, `images.png` and, for each data set, a picture of data and samples.

    Arguments:
        folders: Finished runs.
        destination: Where to write.

    Returns:
        The table and the paths.

    Raises:
        DataError: A folder does not hold a finished run.
    """
    records = [read_json(folder / METRICS) for folder in folders]
    table = images_table(records)
    files: dict[str, bytes | str] = {
        JSON: to_lines("runs", records),
        MARKDOWN: table.to_markdown(),
        CURVES: to_png(plot_learning(records)),
    }
    for name in dict.fromkeys(record["settings"]["data"] for record in records):
        rows = {}
        for record, folder in zip(records, folders, strict=True):
            if record["settings"]["data"] == name:
                stored = read_npz(folder / SAMPLES, ["data", "samples"])
                rows.setdefault("data", stored["data"])
                rows[_flow(record)] = stored["samples"]
        files[f"images-{Path(name).stem}.png"] = to_png(image_grid(rows, title=f"{name}: data, and samples of flows"))
    return table, write_files(destination, files)


def _flow(record: Mapping[str, Any]) -> str:
    settings = record["settings"]
    scales = f"{settings['num_scales']} scale{'s' * (settings['num_scales'] > 1)}"
    return scales if settings["dequantization"] == "uniform" else f"{scales}, learned noise"


def _row(record: Mapping[str, Any]) -> tuple[Entry, ...]:
    test, training = record["test"], record["training"]
    texts = (
        record["settings"]["data"],
        _flow(record),
        f"{test['bits_per_dim']:.3f} ± {test['standard_error']:.3f}",
        f"{record['parameters']:,}",
        f"{training['steps']:,}",
        f"{test['evaluations']:.0f}",
        f"{training['seconds']:.0f}",
    )
    return tuple(map(Entry, texts))


def _notes(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    settings, hardware = records[0]["settings"], records[0]["hardware"]
    numbers = sorted({record["test"]["images"] for record in records})
    return (
        f"An upper bound of −log₂ P(x) / D of {' and '.join(f'{number:,}' for number in numbers)} test images with 256 "
        "levels, by one draw of the noise within pixels and one of the trace per image; ± standard error over images. "
        "Seconds are those of training, of all threads together.",
        f"Hidden channels {'-'.join(map(str, settings['hidden_channels']))}, {settings['flows_per_scale']} flow(s) at "
        f"each scale before and after a squeeze, tolerance {settings['tolerance']:g} in training and "
        f"{settings['test_tolerance']:g} in the test, pixels kept {settings['logit_margin']:g} from 0 and 1, batches "
        f"of {settings['batch_size']}, seed {settings['seed']}; {hardware['processor']}, {hardware['threads']} of "
        f"{hardware['cores']} cores.",
    )
