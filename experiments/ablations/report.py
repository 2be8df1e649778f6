"""Tables, pictures, numbers and answers of ablations: small files, fit to be committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.ablations.answers import NEGLIGIBLE_NATS, answer, answer_noise, answer_tolerance
from experiments.ablations.findings import (
    CONFIDENCE,
    Finding,
    NoiseFinding,
    ToleranceFinding,
    find,
    find_noise,
    find_tolerances,
)
from experiments.ablations.plots import plot_noise, plot_settings, plot_tolerances, plot_training
from experiments.ablations.questions import Question
from experiments.ablations.run import runs_of
from vae_flows.evaluation import PairedDifference
from vae_flows.persistence.json_files import read_json, to_lines, write_files
from vae_flows.persistence.records import to_plain
from vae_flows.reporting import Table
from vae_flows.reporting.plots import to_png
from vae_flows.reporting.tables import Entry, tables_to_markdown
from vae_flows.runs.folder import METRICS

__all__ = ["Answered", "answer_questions", "write_ablations"]

JSON, MARKDOWN = "ablations.json", "ablations.md"
MISSING = "–"
SETTING_COLUMNS = (
    "setting",
    "test −ELBO (nats)",
    "less that of",
    "difference (nats)",
    "evaluations / solve",
    "in the first → last epoch",
    "step time, × default's",
    "posterior's parameters",
)


class Answered(NamedTuple):
    """A question, its tables, whose titles are the answers, its pictures by file name and its numbers."""

    question: Question
    tables: tuple[Table, ...]
    pictures: dict[str, bytes]
    numbers: tuple[dict[str, Any], ...]


def answer_questions(
    questions: Sequence[Question], root: Path, *, seeds: Sequence[int], tiny: bool = False
) -> tuple[Answered, ...]:
    """Read the runs of questions, and answer.

    Raises:
        DataError: A run is not finished, or damaged.
    """
    return tuple(_answer(question, root, seeds, tiny) for question in questions)


def write_ablations(
    questions: Sequence[Question], root: Path, destination: Path, *, seeds: Sequence[int], tiny: bool = False
) -> tuple[list[Table], tuple[Path, ...]]:
    """Write `ablations.md`, `ablations.json` and a picture for each table, and return the tables and the paths.

    Arguments:
        questions: Those to answer.
        root: Folder of the runs.
        destination: Where to write.
        seeds: Of the runs.
        tiny: Whether runs are those that only show that everything works.

    Raises:
        DataError: A run is not finished, or damaged.
    """
    answered = answer_questions(questions, root, seeds=seeds, tiny=tiny)
    tables = [table for each in answered for table in each.tables]
    records = [{"question": each.question.name, **numbers} for each in answered for numbers in each.numbers]
    runs = {
        str(run.folder.relative_to(root)): run
        for question in questions
        for setting in question.settings
        for run in runs_of(setting, root, seeds, tiny=tiny)
    }
    kept = ("settings", "versions", "hardware", "commit", "dirty", "seconds")
    provenance = [
        {"run": name, **{key: value for key, value in read_json(run.folder / METRICS).items() if key in kept}}
        for name, run in runs.items()
    ]
    files: dict[str, bytes | str] = {
        MARKDOWN: tables_to_markdown(tables),
        JSON: to_lines("findings", records),
        "runs.json": to_lines("runs", provenance),
    }
    files |= {name: picture for each in answered for name, picture in each.pictures.items()}
    return tables, write_files(destination, files)


def _answer(question: Question, root: Path, seeds: Sequence[int], tiny: bool) -> Answered:
    findings = find(question, root, seeds, tiny=tiny)
    draw = plot_training if question.over_training else plot_settings
    tables = [_settings_table(question, findings, len(seeds))]
    pictures = {f"{question.name}.png": to_png(draw(question, findings))}
    numbers = [_plain(found) for found in findings]
    if question.retest == "tolerance":
        tested = find_tolerances(question, root, seeds, tiny=tiny)
        tables.insert(0, _tolerance_table(question, tested))
        pictures[f"{question.name}-tested-again.png"] = to_png(plot_tolerances(question, tested))
        numbers += [_plain(found) for found in tested]
    elif question.retest == "noise":
        noisy = find_noise(question, root, seeds, tiny=tiny)
        tables.insert(0, _noise_table(question, noisy))
        pictures[f"{question.name}-tested-again.png"] = to_png(plot_noise(question, noisy))
        numbers += [_plain(found) for found in noisy]
    return Answered(question, tuple(tables), pictures, tuple(numbers))


def _settings_table(question: Question, findings: Sequence[Finding], seeds: int) -> Table:
    spread = f"± is the sample standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    compared = any(found.difference is not None for found in findings)
    note = (
        f"{spread}. Intervals hold at once with {CONFIDENCE:.0%}, paired by test image"
        + (", for other trainings too." if seeds > 1 else ", for these models alone.")
        if compared
        else f"{spread}."
    )
    note += " Step times are of a processor and of trained models, in turn with the default's of the same seed."
    rows = tuple(_setting_row(found) for found in findings)
    return Table(f"{question.text} {answer(question, findings)}", SETTING_COLUMNS, rows, (note,))


def _setting_row(found: Finding) -> tuple[Entry, ...]:
    difference = found.difference
    ends = [sum(of_seed[end] for of_seed in found.by_epoch) / len(found.by_epoch) for end in (0, -1)]
    return (
        Entry(found.setting.name),
        Entry(found.negative_elbo.text()),
        Entry(found.setting.against or MISSING),
        Entry(_interval(difference), bold=difference is not None and difference.is_real),
        Entry(found.evaluations.text(1)),
        Entry(f"{ends[0]:.1f} → {ends[1]:.1f}"),
        Entry(found.step_time.text()),
        Entry(f"{found.parameters:,}"),
    )


def _tolerance_table(question: Question, findings: Sequence[ToleranceFinding]) -> Table:
    columns = ("tolerance", "evaluations / solve", "error of log q (nats)", "difference of −ELBO (nats)")
    rows = tuple(
        (
            Entry(f"{found.tolerance:g}"),
            Entry(found.evaluations.text(1)),
            Entry(f"{found.log_q_error.mean:.2g}"),
            Entry(_interval(found.difference, "+.2g"), bold=found.difference is not None and found.difference.is_real),
        )
        for found in findings
    )
    note = (
        "The default's trained models tested again in float64, all tolerances with the same draws; the error of log q "
        "is the root mean square at the same z, and both are against the tightest tolerance. Errors below "
        f"{NEGLIGIBLE_NATS:g} nats count as negligible; intervals hold at once with {CONFIDENCE:.0%}."
    )
    return Table(f"{question.text} {answer_tolerance(findings)}", columns, rows, (note,))


def _noise_table(question: Question, findings: Sequence[NoiseFinding]) -> Table:
    settings = list(dict.fromkeys(found.setting.name for found in findings))
    by_name = {(found.setting.name, found.estimate): found.variance for found in findings}
    columns = ("estimate", *(f"variance of log q (nats²), {name}" for name in settings))
    rows = tuple(
        (Entry(estimate), *(Entry(_scientific(by_name[name, estimate].mean)) for name in settings))
        for estimate in dict.fromkeys(found.estimate for found in findings)
    )
    note = "Trained models tested again, at the same z: the average over images of the variance over draws of noise."
    return Table(f"{question.text} {answer_noise(findings)}", columns, rows, (note,))


def _plain(found: Finding | ToleranceFinding | NoiseFinding) -> dict[str, Any]:
    """Return a finding as JSON has it, with the numbers of a difference by name."""
    difference = None if isinstance(found, NoiseFinding) else found.difference
    named = {} if difference is None else {"difference": difference._asdict()}
    return {**to_plain(replace(found, **dict.fromkeys(named))), **named}


def _interval(difference: PairedDifference | None, form: str = "+.2f") -> str:
    if difference is None:
        return MISSING
    return f"{difference.value:{form}} [{difference.lower:{form}}, {difference.upper:{form}}]"


def _scientific(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}"
