"""The answer to a question in one sentence, made of the numbers that were found."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from experiments.ablations.findings import Finding, NoiseFinding, ToleranceFinding
from experiments.ablations.questions import Question
from vae_flows.reporting import Estimate

__all__ = ["NEGLIGIBLE_NATS", "answer", "answer_noise", "answer_tolerance", "answer_training"]

NEGLIGIBLE_NATS = 0.01
"""An error of log q that no comparison of posteriors sees."""


def answer(question: Question, findings: Sequence[Finding]) -> str:
    """Say which settings really differ from those that they are compared with, and what each costs.

    A difference is real where its interval leaves out zero.
    """
    if question.over_training:
        return answer_training(findings)
    better = [_worded(found) for found in findings if found.difference and found.difference.upper < 0]
    worse = [_worded(found) for found in findings if found.difference and found.difference.lower > 0]
    parts = [f"really lower −ELBO has {_joined(better)}"] if better else []
    parts += [f"really higher −ELBO has {_joined(worse)}"] if worse else []
    if not parts:
        parts = ["no difference of −ELBO is real at this length of training"]
    return _sentence("; ".join([*parts, _costs(question, findings)]))


def answer_training(findings: Sequence[Finding]) -> str:
    """Say how evaluations changed from the first epoch of training to the last, by the average over seeds."""
    (found,) = findings
    first, last = (statistics.fmean(of_seed[end] for of_seed in found.by_epoch) for end in (0, -1))
    ratios = Estimate.of([of_seed[-1] / of_seed[0] for of_seed in found.by_epoch])
    epochs, seeds = len(found.by_epoch[0]), len(found.by_epoch)
    return _sentence(
        f"from the first to the last of {epochs} epochs, evaluations of a solve went from {first:.1f} to {last:.1f}, "
        f"{ratios.text()}-fold over {seeds} seed{'s' * (seeds > 1)}"
    )


def answer_tolerance(findings: Sequence[ToleranceFinding]) -> str:
    """Name the loosest tolerance whose error of log q is negligible, as is that of all tighter ones."""
    exact, *others = findings
    enough = None
    for found in sorted(others, key=lambda found: found.tolerance):
        if found.log_q_error.mean > NEGLIGIBLE_NATS:
            break
        enough = found
    if enough is None:
        return _sentence(f"no tolerance here keeps the error of log q below {NEGLIGIBLE_NATS:g} nats")
    return _sentence(
        f"the error of log q stays below {NEGLIGIBLE_NATS:g} nats up to tolerance {enough.tolerance:g}, for "
        f"{enough.evaluations.mean:.0f} evaluations of a solve instead of the {exact.evaluations.mean:.0f} at "
        f"{exact.tolerance:g}"
    )


def answer_noise(findings: Sequence[NoiseFinding]) -> str:
    """Name, for each trained setting, the estimate of least and of most variance."""
    parts = []
    for name in dict.fromkeys(found.setting.name for found in findings):
        noisy = [found for found in findings if found.setting.name == name and found.variance.mean > 0]
        if noisy:
            least, most = (choose(noisy, key=lambda found: found.variance.mean) for choose in (min, max))
            parts.append(
                f"for {name}, the variance of log q lies between {least.variance.mean:.3g} nats² ({least.estimate}) "
                f"and {most.variance.mean:.3g} ({most.estimate})"
            )
    return _sentence("; ".join(parts) or "no estimate has any variance")


def _worded(found: Finding) -> str:
    value = found.difference.value if found.difference else 0.0
    return f"{found.setting.name} ({value:+.2f} nats to {found.setting.against})"


def _costs(question: Question, findings: Sequence[Finding]) -> str:
    if question.cost == "evaluations":
        least, most = _ends(findings, lambda found: found.evaluations.mean)
        return (
            f"evaluations of a solve lie between {least.evaluations.mean:.1f} ({least.setting.name}) and "
            f"{most.evaluations.mean:.1f} ({most.setting.name})"
        )
    least, most = _ends(findings, lambda found: found.step_time.mean)
    return (
        f"a training step takes between {least.step_time.mean:.2f} ({least.setting.name}) and "
        f"{most.step_time.mean:.2f} ({most.setting.name}) times the default's time"
    )


def _ends(findings: Sequence[Finding], cost: Callable[[Finding], float]) -> tuple[Finding, Finding]:
    return min(findings, key=cost), max(findings, key=cost)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
