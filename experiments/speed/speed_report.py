"""Tables, JSON and plot of the comparison."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

from experiments.speed.competitors.roster import BASELINE, COMPILED, MODES
from experiments.speed.speed_plot import plot_comparison
from experiments.speed.speed_records import ASYMPTOTIC, Comparison, Measurement, SizeResult
from experiments.speed.targets import GIGABYTE, judge
from vae_flows.persistence.json_files import to_json, write_files
from vae_flows.persistence.records import to_plain
from vae_flows.reporting.plots import to_png
from vae_flows.reporting.tables import MISSING, Entry, Table, tables_to_markdown

__all__ = ["make_tables", "write_comparison"]

_MEGABYTE = 1e6
_COLUMNS = (
    *("competitor", "s / step", f"× {BASELINE}", "evaluations", "step, GB", "process, GB"),
    *("error of values", "of gradients"),
)
_LITERATURE = {
    "log-determinant": "O(DH + D³)",
    "brute force": "O(DH + D²)",
    "Hutchinson": "O(DH + D)",
    "closed form": MISSING,
}


def make_tables(comparison: Comparison) -> list[Table]:
    """Return what the terminal and the Markdown file show: targets first, then what they come from."""
    sizes = map(_size_table, comparison.sizes)
    others = _steps_table(comparison), _scaling_table(comparison), _products_table(comparison)
    return [_targets_table(comparison), *sizes, *others]


def write_comparison(comparison: Comparison, folder: Path) -> tuple[list[Table], tuple[Path, ...]]:
    """Write `speed.json`, `speed.md` and `speed.png` into a folder, and return the tables and the paths."""
    tables = make_tables(comparison)
    targets = [target._asdict() | {"verdict": target.verdict} for target in judge(comparison)]
    files: dict[str, bytes | str] = {
        "speed.json": to_json(to_plain(comparison) | {"targets": targets}),
        "speed.md": tables_to_markdown(tables),
        "speed.png": to_png(plot_comparison(comparison)),
    }
    return tables, write_files(folder, files)


def _targets_table(comparison: Comparison) -> Table:
    rows = []
    for target in judge(comparison):
        wanted = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
        rows.append(_row(target.text, wanted, target.measured, target.verdict, bold=target.verdict == "short"))
    hardware, settings = comparison.hardware, comparison.settings
    on_cpu = settings.get("device", "cpu") == "cpu"
    place = hardware["processor"] if on_cpu else ", ".join(hardware["accelerators"])
    note = (
        f"{place}, {settings['threads']} threads, float32, forward and backward of the posterior "
        f"alone, tolerance {settings['tolerance']:g}. Ratios are medians of the ratios of interleaved rounds. "
        "While time is taken, glibc keeps freed memory for the next step, for all alike."
    )
    return Table("Speed: what was to be reached", ("", "wanted", "measured", "verdict"), tuple(rows), (note,))


def _size_table(result: SizeResult) -> Table:
    notes = [f"{entry.competitor} {entry.absent}" for entry in result.measurements if entry.absent]
    if result.floor_seconds is not None:
        notes.append(
            f"The matrix products alone take {_number(result.floor_seconds)} s at the "
            f"{2e-9 * median(result.rates):.0f} GFLOP/s of a large product, measured in the same rounds; {BASELINE} "
            f"takes {_number(result.floor_ratio(BASELINE))} times that."
        )
    compiled = result.find(COMPILED)
    if compiled.first_seconds is not None:
        notes.append(
            f"{COMPILED}: torch.compile takes most of the {compiled.first_seconds:.0f} s of the first step; "
            f"the later ones take {_number(result.floor_ratio(COMPILED))} times the matrix products alone."
        )
    for entry in result.measurements:
        if entry.seconds and not entry.errors:
            own = "and tolerance, dynamics" if entry.forward_evaluations else "of hidden layers, networks"
            notes.append(f"{entry.competitor}: equal widths {own} of its own.")
    rows = tuple(_measurement_row(entry, result) for entry in result.measurements)
    return Table(result.size, _COLUMNS, rows, tuple(notes))


def _measurement_row(entry: Measurement, result: SizeResult) -> tuple[Entry, ...]:
    if entry.absent:
        return _row(entry.competitor, entry.absent.partition(":")[0], *[None] * (len(_COLUMNS) - 2))
    counts = entry.forward_evaluations, entry.backward_evaluations
    memory = entry.step_bytes, entry.process_bytes
    return _row(
        entry.competitor,
        entry.median,
        result.ratio(entry.competitor, BASELINE),
        None if counts == (None, None) else " + ".join("?" if count is None else str(count) for count in counts),
        *(None if count is None else f"{count / GIGABYTE:.2f}" for count in memory),
        *(None if error is None else f"{error:.1e}" for error in (entry.value_error, entry.gradient_error)),
        bold=entry.competitor == BASELINE,
    )


def _steps_table(comparison: Comparison) -> Table:
    counts = sorted({point.steps for point in comparison.steps})
    known = {(point.mode, point.steps): point for point in comparison.steps}
    rows = []
    for mode in MODES:
        points = [known.get((mode, count)) for count in counts]
        memory = [*(point and point.step_bytes for point in points), comparison.growth(mode)]
        milliseconds = (point and 1e3 * point.seconds for point in points)
        rows.append(_row(mode, *milliseconds, *(None if size is None else size / _MEGABYTE for size in memory)))
    settings = comparison.settings["steps"]
    note = f"{settings['size']}, fixed steps of {settings['method']}, each of which makes four evaluations."
    columns = ("", *(f"{unit}, {count} steps" for unit in ("ms", "MB") for count in counts), "MB a further step")
    return Table("Gradient modes against the number of steps", columns, tuple(rows), (note,))


def _scaling_table(comparison: Comparison) -> Table:
    dims = sorted({point.dim for point in comparison.scaling})
    known = {(point.method, point.dim): 1e3 * point.seconds for point in comparison.scaling}
    rows = [
        _row(method, *(known.get((method, dim)) for dim in dims), comparison.exponent(method), bound)
        for method, bound in _LITERATURE.items()
    ]
    scaling = comparison.settings["scaling"]
    note = (
        f"{scaling['batch']} examples, hidden layers {'-'.join(map(str, scaling['hidden_dims']))}, threads: "
        f"{scaling['threads']}. The exponent is that of D from {ASYMPTOTIC} on. The log-determinant is that of a "
        "Jacobian which is given."
    )
    columns = ("", *(f"D = {dim}" for dim in dims), "exponent", "literature")
    return Table("Value and change of log-density with gradient, ms per evaluation", columns, tuple(rows), (note,))


def _products_table(comparison: Comparison) -> Table:
    products = comparison.products
    title, columns = "Products with the Jacobian of f, over f alone", ("", "× f")
    if products is None:
        return Table(title, columns, (), comparison.failures)
    rows = tuple(_row(name, f"{ratio:.2f}") for name, ratio in products.ratios.items())
    note = f"f takes {_number(1000 * products.value_seconds)} ms at {products.size}. The literature bounds both by 4."
    return Table(title, columns, rows, (note, *comparison.failures))


def _row(*fields: str | float | None, bold: bool = False) -> tuple[Entry, ...]:
    return tuple(Entry(field if isinstance(field, str) else _number(field), bold) for field in fields)


def _number(value: float | None) -> str:
    """Return three significant digits, without an exponent.

    Example:
        >>> _number(0.12345), _number(42.4242), _number(1234.5)
        ('0.123', '42.4', '1234')
    """
    if value is None:
        return MISSING
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"
