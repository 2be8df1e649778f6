"""A plain word on each diagnostic of a run: good, to be watched, or bad, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from vae_flows.runs.diagnosis import RunDiagnostics

__all__ = ["ABSENT", "KINDS", "DiagnosticKind", "Finding", "Word", "judge"]

Word = Literal["good", "watch", "bad", ""]
"""Of numbers that are neither good nor bad in themselves: none."""
COLLAPSED_NATS, LEAST_SHARE, RELIABLE_SHARE = 0.1, 0.1, 0.95
NOISY_NATS, LOST_NATS, WRONG_NATS = 1.0, 0.01, 0.1
FALSE_ALARMS = 0.01
"""Of a test: how often it condemns what is right."""
STANDARD_ERRORS, FEW_PERCENT = 5.0, 0.02
STIFFER = 2.0


class DiagnosticKind(NamedTuple):
    """A diagnostic, and what is good and bad.

    Arguments:
        name: Its heading.
        meaning: What it is, and when it is good, to be watched, or bad.
    """

    name: str
    meaning: str


class Finding(NamedTuple):
    """A diagnostic of one run: its number, worded, and the word on it. Without a number it is absent."""

    text: str
    word: Word


ABSENT = Finding("–", "")
KINDS = (
    DiagnosticKind("rate (nats)", f"E_q[log q(z|x) − log p(z)]; bad below {COLLAPSED_NATS}: q is the prior, collapsed"),
    DiagnosticKind("distortion (nats)", "E_q[−log p(x|z)]; with the rate it is the −ELBO of these images"),
    DiagnosticKind(
        "mutual information (nats)",
        f"what latents know of images, between two bounds; bad below {COLLAPSED_NATS} nats",
    ),
    DiagnosticKind("active units", "latents whose posterior mean changes with images; watch unused ones, bad if none"),
    DiagnosticKind(
        "effective draws",
        f"of the importance weights; watch below {LEAST_SHARE:.0%} of the draws, where −log p(x) rests on few of them",
    ),
    DiagnosticKind(
        "reliable k̂",
        f"images whose Pareto k̂ is below its threshold; good from {RELIABLE_SHARE:.0%}, bad below half: "
        "importance sampling then needs more draws than are feasible, and −log p(x) is overestimated",
    ),
    DiagnosticKind(
        "trace noise (nats)",
        f"deviation of Hutchinson's log q in training; good below {NOISY_NATS:g} nat, none where traces are exact",
    ),
    DiagnosticKind(
        "round-trip error (nats)",
        f"largest change of log q when the flow is inverted; good below {LOST_NATS:g}, bad above {WRONG_NATS:g}",
    ),
    DiagnosticKind(
        "aggregate posterior = prior, p",
        f"a kernel test; below {FALSE_ALARMS:g} they differ, and samples come from latents never decoded in training",
    ),
    DiagnosticKind("∫ q(z) dz − 1", "with few latents; bad where it is really not 0: the log-determinant is wrong"),
    DiagnosticKind(
        "calibration, p",
        f"ranks of true latents of data that the model draws; below {FALSE_ALARMS:g} q is not its posterior",
    ),
    DiagnosticKind("approximation gap (nats)", "what the family of q cannot reach, on a few images"),
    DiagnosticKind("amortisation gap (nats)", "what the encoder does not reach in the family, on a few images"),
    DiagnosticKind(
        "evaluations / solve, first → last epoch",
        f"watch where they rise more than {STIFFER:g}-fold: the dynamics become stiff",
    ),
)


def judge(found: RunDiagnostics, evaluations: Sequence[float] = ()) -> tuple[Finding, ...]:
    """Return what to say of each of `KINDS`.

    Arguments:
        found: What the diagnostics found.
        evaluations: Evaluations per solve by epoch.

    Example:
        >>> findings = judge(RunDiagnostics(1.0, latent_dim=2, rate=0.001, active_units=0))
        >>> [finding.word for finding in findings[:4]]
        ['bad', '', '', 'bad']
    """
    return (
        _number(found.rate, "good", bad=found.rate is not None and found.rate < COLLAPSED_NATS),
        _number(found.distortion, ""),
        _information(found),
        _units(found),
        _draws(found),
        _reliable(found),
        _noise(found),
        _round_trip(found),
        _test(found.aggregate_p_value, "bad"),
        _integral(found),
        _test(found.calibration_p_value, "bad"),
        _number(found.approximation_gap, ""),
        _number(found.amortization_gap, ""),
        _evaluations(evaluations),
    )


def _number(value: float | None, word: Word, *, bad: bool = False) -> Finding:
    return ABSENT if value is None else Finding(f"{value:.2f}", "bad" if bad else word)


def _information(found: RunDiagnostics) -> Finding:
    lower, upper = found.information_lower, found.information_upper
    if lower is None or upper is None:
        return ABSENT
    return Finding(f"{lower:.2f} to {upper:.2f}", "bad" if upper < COLLAPSED_NATS else "good")


def _units(found: RunDiagnostics) -> Finding:
    count = found.active_units
    if count is None:
        return ABSENT
    return Finding(
        f"{count} of {found.latent_dim}", "good" if count == found.latent_dim else "watch" if count else "bad"
    )


def _draws(found: RunDiagnostics) -> Finding:
    size, draws = found.effective_sample_size, found.weight_draws
    if size is None or draws is None:
        return ABSENT
    return Finding(f"{size:.1f} of {draws}", "watch" if size < LEAST_SHARE * draws else "good")


def _reliable(found: RunDiagnostics) -> Finding:
    share = found.reliable_share
    if share is None:
        return ABSENT
    return Finding(f"{share:.0%}", "good" if share >= RELIABLE_SHARE else "watch" if share >= 0.5 else "bad")


def _noise(found: RunDiagnostics) -> Finding:
    noise = found.trace_noise
    if noise is None:
        return ABSENT
    return Finding("none" if noise == 0 else f"{noise:.2f}", "good" if noise < NOISY_NATS else "watch")


def _round_trip(found: RunDiagnostics) -> Finding:
    error = found.round_trip_log_density
    if error is None:
        return ABSENT
    return Finding(f"{error:.1g}", "good" if error < LOST_NATS else "watch" if error < WRONG_NATS else "bad")


def _test(p_value: float | None, condemned: Word) -> Finding:
    if p_value is None:
        return ABSENT
    return Finding(f"{p_value:.2g}", condemned if p_value < FALSE_ALARMS else "good")


def _integral(found: RunDiagnostics) -> Finding:
    error, z_score = found.integral_error, found.integral_z_score
    if error is None or z_score is None:
        return ABSENT
    return Finding(f"{error:.2g}", "bad" if z_score > STANDARD_ERRORS and error > FEW_PERCENT else "good")


def _evaluations(evaluations: Sequence[float]) -> Finding:
    if not evaluations:
        return ABSENT
    first, last = evaluations[0], evaluations[-1]
    return Finding(f"{first:.0f} → {last:.0f}", "watch" if last > STIFFER * first else "good")
