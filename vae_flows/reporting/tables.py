"""Tables of results: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.extras import needing
from vae_flows.reporting.summaries import Estimate, PosteriorSummary, Reference

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["Entry", "Table", "results_table", "summaries_to_csv", "tables_to_markdown"]

MISSING = "–"
LATEX = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "–": "--",
}


class Entry(NamedTuple):
    """One field of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A small table whose first column names its rows.

    Example:
        >>> table = Table("Bounds", ("posterior", "−ELBO"), ((Entry("none"), Entry("86.55", bold=True)),), ("A note.",))
        >>> print(table.to_markdown())
        **Bounds**
        <BLANKLINE>
        | posterior | −ELBO |
        |:---|---:|
        | none | **86.55** |
        <BLANKLINE>
        A note.
        <BLANKLINE>
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """Return title, table and notes as Markdown, numbers aligned right."""
        lines = [
            f"**{self.title}**",
            "",
            _markdown_row(self.columns),
            _markdown_row([":---", *["---:"] * (len(self.columns) - 1)]).replace(" ", ""),
            *(_markdown_row([f"**{text}**" if bold else text for text, bold in row]) for row in self.rows),
        ]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"

    def to_rich(self) -> RichTable:
        """Return the table for a `rich` console."""
        with needing("cli"):
            from rich.table import Table as RichTable
            from rich.text import Text

        caption = Text("\n".join(self.notes)) if self.notes else None
        table = RichTable(title=Text(self.title), title_justify="left", caption=caption, caption_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
        for row in self.rows:
            table.add_row(*(Text(text, style="bold" if bold else "") for text, bold in row))
        return table

    def to_csv(self) -> str:
        """Return columns and rows as CSV, without title and notes."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([entry.text for entry in row] for row in self.rows)
        return stream.getvalue()

    def to_latex(self) -> str:
        """Return a `table` for LaTeX, with the rules of the package `booktabs`."""
        head = " & ".join(map(_to_latex, self.columns))
        rows = [
            " & ".join(rf"\textbf{{{_to_latex(text)}}}" if bold else _to_latex(text) for text, bold in row)
            for row in self.rows
        ]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_to_latex(' '.join([f'{self.title}.', *self.notes]))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *(rf"{row} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        """Return plain text with aligned columns; the best is marked by a star."""
        rows = [self.columns, *([f"{text}*" if bold else f"{text} " for text, bold in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.rjust(width) if place else text.ljust(width) for place, (text, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        return "\n".join(line.rstrip() for line in (self.title, *lines, *self.notes))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        rows = "".join(
            "<tr>"
            + "".join(f"<td><b>{escape(text)}</b></td>" if bold else f"<td>{escape(text)}</td>" for text, bold in row)
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{escape(self.title)}</caption><tr>{head}</tr>{rows}</table>{notes}"


def tables_to_markdown(tables: Iterable[Table]) -> str:
    """Return tables one below the other.

    Example:
        >>> tables_to_markdown([Table("Bounds", ("", "−ELBO"), ()), Table("Times", ("", "s"), ())]).count("**")
        4
    """
    return "\n".join(table.to_markdown() for table in tables)


@checked
def results_table(
    summaries: Sequence[PosteriorSummary],
    reference: Reference | None = None,
    notes: Iterable[str] = (),
    *,
    best_elbo: str | None = None,
    best_likelihood: str | None = None,
) -> Table:
    """Tabulate the posteriors of one data set, beside published numbers.

    Averages do not say which is best: what is to be bold is given. A posterior of which every run failed says so.

    Arguments:
        summaries: The posteriors of one data set, as `summarize` gives them.
        reference: Published test −ELBO, as a last column.
        notes: Sentences to put below.
        best_elbo: The posterior whose −ELBO is set in bold, such as `vae_flows.evaluation.rank_posteriors(…).best`.
        best_likelihood: The one whose −log p(x) is.

    Raises:
        InvalidInputError: There is nothing to tabulate, or it belongs to several data sets.

    Example:
        >>> from vae_flows.reporting.summaries import RunResult, summarize
        >>> runs = [RunResult("mnist", name, 0, negative_elbo=bound) for name, bound in (("none", 86.5), ("iaf", 84.2))]
        >>> [row[1] for row in results_table(summarize(runs)["mnist"], best_elbo="iaf").rows]
        [Entry(text='86.50', bold=False), Entry(text='84.20', bold=True)]
    """
    data = {summary.data for summary in summaries}
    if len(data) != 1:
        raise InvalidInputError(complaint("summaries", "those of one data set", sorted(data) or "none"))
    unit = summaries[0].unit
    count = max(summary.finished for summary in summaries)
    bounds = _bound_column(summaries, [s.negative_elbo for s in summaries], count, best_elbo)
    likelihoods = _bound_column(summaries, [s.negative_log_likelihood for s in summaries], count, best_likelihood)
    rows = [
        (
            Entry(summary.posterior),
            bound,
            likelihood,
            Entry(_number(summary.evaluations_per_solve, 1)),
            Entry(_number(summary.seconds_per_epoch, 2)),
            Entry(MISSING if summary.parameters is None else f"{summary.parameters:,}"),
        )
        for summary, bound, likelihood in zip(summaries, bounds, likelihoods, strict=True)
    ]
    columns = (
        "posterior",
        f"test −ELBO ({unit})",
        f"−log p(x) ({unit})",
        "evaluations / solve",
        "s / epoch",
        "parameters",
    )
    if reference is not None:
        published = [reference.negative_elbo.get(summary.posterior) for summary in summaries]
        rows = [(*row, Entry(p.text() if p else MISSING)) for row, p in zip(rows, published, strict=True)]
        columns = (*columns, f"{reference.source}, −ELBO")
        notes = (*notes, *reference.notes)
    return Table(f"{data.pop()}: {_describe_seeds(count)}", columns, tuple(rows), tuple(notes))


@checked
def summaries_to_csv(
    summaries: Iterable[PosteriorSummary], references: Mapping[str, Reference] = MappingProxyType({})
) -> str:
    """Return the summaries as CSV: full precision, one line per posterior, empty fields for what is not known.

    Arguments:
        summaries: Posteriors of any number of data sets.
        references: Published numbers by data set.
    """
    estimates = ("negative_elbo", "negative_log_likelihood", "evaluations_per_solve", "seconds_per_epoch")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    counts = ("finished", "failed", "unfinished")
    pairs = [f"{name}_{part}" for name in (*estimates, "reference_negative_elbo") for part in ("mean", "std")]
    writer.writerow(["data", "posterior", "unit", *counts, *pairs, "parameters"])
    for summary in summaries:
        reference = references.get(summary.data)
        published = reference.negative_elbo.get(summary.posterior) if reference else None
        numbers = [getattr(summary, name) for name in estimates] + [published]
        parts = [part for number in numbers for part in ((number.mean, number.std) if number else ("", ""))]
        head = [summary.data, summary.posterior, summary.unit, *(getattr(summary, name) for name in counts)]
        writer.writerow([*head, *parts, summary.parameters])
    return stream.getvalue()


def _to_latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def _markdown_row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _describe_seeds(count: int) -> str:
    if count == 0:
        return "no finished run"
    seeds = "one seed" if count == 1 else f"mean ± sample standard deviation over {count} seeds"
    return f"{seeds}, lower is better"


def _number(estimate: Estimate | None, decimals: int) -> str:
    return MISSING if estimate is None else f"{estimate.mean:.{decimals}f}"


def _bound_column(
    summaries: Sequence[PosteriorSummary], estimates: Sequence[Estimate | None], count: int, best: str | None
) -> list[Entry]:
    """Word one column of bounds; an entry from fewer than `count` seeds tells from how many."""
    entries = []
    for summary, estimate in zip(summaries, estimates, strict=True):
        if estimate is None:
            absent = MISSING if summary.finished else "failed" if summary.failed else "unfinished"
            entries.append(Entry(absent))
            continue
        text = estimate.text() if estimate.count == count else f"{estimate.text()} (n = {estimate.count})"
        if summary.failed:
            text += f", {summary.failed} failed"
        entries.append(Entry(text, bold=summary.posterior == best))
    return entries
