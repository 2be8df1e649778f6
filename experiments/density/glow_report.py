"""Table, picture and numbers of FFJORD and a flow like Glow beside each other: small files, fit to be committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.density.glow import METRICS, read_glow_density
from experiments.density.picture import read_picture
from experiments.density.plots import Comparison, plot_comparisons
from experiments.density.report import without_history
from experiments.density.run import ARRAYS
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.reporting import Table
from vae_flows.reporting.plots import to_png
from vae_flows.reporting.tables import Entry

__all__ = ["FFJORD", "GLOW", "comparison_table", "write_comparison"]

FFJORD, GLOW = "FFJORD", "like Glow"
JSON, MARKDOWN, PICTURE = "density-glow.json", "density-glow.md", "density-glow.png"
COLUMNS = ("data", "flow", "excess (nats)", "parameters", "steps", "processor seconds")


def comparison_table(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Table:
    """Tabulate what the `metrics.json` of pairs of runs hold, FFJORD's and the other's, one row per run."""
    rows = []
    for ffjord, glow in pairs:
        rows += [_row(ffjord, FFJORD, ffjord["settings"]["steps"]), _row(glow, GLOW, glow["training"]["steps"])]
    return Table("Toy densities learned by FFJORD and by a flow like Glow", COLUMNS, tuple(rows), _notes(pairs))


def write_comparison(places: Sequence[tuple[Path, Path]], destination: Path) -> tuple[Table, tuple[Path, ...]]:
    """Write `density-glow.json`, `density-glow.md` and `density-glow.png`, and return the table and the paths.

    Arguments:
        places: Folders of finished runs of a density by FFJORD and by the other flow.
        destination: Where to write.

    Raises:
        DataError: A folder does not hold a finished run.
    """
    pairs = [(read_json(ffjord / METRICS), read_json(glow / METRICS)) for ffjord, glow in places]
    panels = {}
    for (ffjord, glow), (ffjord_place, glow_place) in zip(pairs, places, strict=True):
        picture = read_picture(ffjord_place / ARRAYS)
        panels[ffjord["settings"]["data"]] = Comparison(
            limit=picture.limit,
            data=picture.data,
            densities={GLOW: read_glow_density(glow_place), FFJORD: picture.density},
            excess={GLOW: glow["test"]["excess"], FFJORD: ffjord["test"]["excess"]},
        )
    table = comparison_table(pairs)
    files: dict[str, bytes | str] = {
        JSON: to_lines("runs", [without_history(record) for pair in pairs for record in pair]),
        MARKDOWN: table.to_markdown(),
        PICTURE: to_png(plot_comparisons(panels)),
    }
    return table, write_files(destination, files)


def _row(record: Mapping[str, Any], flow: str, steps: int) -> tuple[Entry, ...]:
    test = record["test"]
    texts = (
        record["settings"]["data"],
        flow,
        f"{test['excess']:.3f} ± {test['excess_standard_error']:.3f}",
        f"{record['parameters']:,}",
        f"{steps:,}",
        f"{record['processor_seconds']:.0f}",
    )
    return tuple(map(Entry, texts))


def _notes(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> tuple[str, ...]:
    (ffjord, glow), *_ = pairs
    one, other, hardware = ffjord["settings"], glow["settings"], ffjord["hardware"]
    return (
        f"Excess: −log p of the model less that of the true density on the same {ffjord['test']['points']:,} points; ± "
        "standard error. Seconds are those of a processor for training, test and picture; the flow like Glow trains "
        "alone as long as FFJORD takes for all of that.",
        f"FFJORD: hidden layers {_joined(one['hidden_dims'])}, {one['activation']}, {one['steps']} steps of "
        f"{one['batch_size']} points. Like Glow: {other['num_steps']} steps of flow of zuko "
        f"{glow['versions']['zuko']}, each a shift, a linear map L U and an affine coupling with hidden layers "
        f"{_joined(other['hidden_dims'])} and scales from {other['least_scale']:g} to {1 / other['least_scale']:.2g}, "
        f"batches of {other['batch_size']}; seed {one['seed']}; "
        f"{hardware['processor']}, {hardware['threads']} of {hardware['cores']} cores.",
    )


def _joined(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))
