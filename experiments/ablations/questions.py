"""What is asked, and of which settings: each by its name and by what it changes, in the names of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vae_flows.benchmark.presets import QUICK
from vae_flows.errors import unknown_name
from vae_flows.runs.settings import EvaluationSettings, RunSettings, with_changes

__all__ = ["DEFAULT", "NARROW", "QUESTIONS", "Question", "Setting", "base_settings", "find_questions"]

DATA, POSTERIOR = "caltech101-silhouettes", "ffjord"
EPOCHS: Mapping[str, Any] = {"training.max_epochs": 18, "training.warmup_epochs": 6}
TINY: Mapping[str, Any] = {
    "training.max_epochs": 1,
    "training.warmup_epochs": 1,
    "training.batch_size": 20,
    "max_images": 40,
    "network.hidden_dims": (8,),
    "network.context_dim": 8,
    "posterior_options.hidden_dims": (8,),
}
Retest = Literal["tolerance", "noise"]


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Arguments:
        name: What it is called in tables.
        changes: What differs from the default.
        against: Name of the setting that it is compared with; empty for one that others are compared with.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    against: str = "default"

    @property
    def folder(self) -> str:
        """Name of the folder of its runs.

        Example:
            >>> Setting("64 latents").folder
            '64-latents'
        """
        return re.sub(r"\W+", "-", self.name).strip("-")

    def settings(self, seed: int, *, tiny: bool = False) -> RunSettings:
        """Return the settings of its run with a seed; `tiny` ones show that it works, and measure nothing."""
        return with_changes(base_settings(seed, tiny=tiny), self.changes)


@dataclass(frozen=True)
class Question:
    """One question.

    Arguments:
        name: By which the command line knows it.
        text: The question.
        settings: What is trained, in the order of the table.
        cost: What the answer tells beside −ELBO: evaluations of a solve, or the time of a training step.
        retest: What trained models are tested with again, without training.
        over_training: Whether it is about the course of a training.
    """

    name: str
    text: str
    settings: tuple[Setting, ...]
    cost: Literal["evaluations", "time"] = "evaluations"
    retest: Retest | None = None
    over_training: bool = False


def base_settings(seed: int, *, tiny: bool = False) -> RunSettings:
    """Return the settings of the default: FFJORD of the quick preset, trained for half as long."""
    quick = replace(QUICK, evaluation=EvaluationSettings()).settings(DATA, POSTERIOR, seed)
    return with_changes(quick, {"training.loggers": ("csv",), **(TINY if tiny else EPOCHS)})


def _options(**options: Any) -> dict[str, Any]:
    return {f"posterior_options.{name}": value for name, value in options.items()}


def _tolerance(value: float) -> dict[str, Any]:
    return {"posterior_options.solver.rtol": value, "posterior_options.solver.atol": value}


DEFAULT = Setting("default", against="")
# The bottleneck estimator is for hidden layers that are narrower than the latent space.
NARROW = Setting("hidden layers 256-16", _options(hidden_dims=(256, 16)), against="")

QUESTIONS = (
    Question(
        "tolerance",
        "What does the solver's tolerance cost in evaluations, and gain in log q and −ELBO?",
        (DEFAULT, *(Setting(f"trained at tolerance {value:g}", _tolerance(value)) for value in (1e-2, 1e-3))),
        retest="tolerance",
    ),
    Question(
        "training",
        "Do the evaluations of a solve rise while the dynamics are trained?",
        (DEFAULT,),
        over_training=True,
    ),
    Question(
        "dimension",
        "Do the evaluations of a solve rise with the latent dimension?",
        (
            *(Setting(f"{size} latents", {"latent_dim": size}) for size in (2, 4, 8, 16)),
            DEFAULT,
            *(Setting(f"{size} latents", {"latent_dim": size}) for size in (64, 128)),
        ),
    ),
    Question(
        "time",
        "How should time enter the dynamics?",
        (
            DEFAULT,
            *(
                Setting(f"time by {name}", _options(time_conditioning=name))
                for name in ("ignore", "squash", "concat_squash", "blend", "hyper")
            ),
        ),
    ),
    Question(
        "noise",
        "Which estimate of the trace is to be trained with?",
        (
            DEFAULT,
            Setting("Gaussian, 4 probes", _options(num_probes=4)),
            Setting("Gaussian, 16 probes", _options(num_probes=16)),
            Setting("Rademacher", _options(noise="rademacher")),
            Setting("Rademacher, 16 probes", _options(noise="rademacher", num_probes=16)),
            Setting("exact trace", _options(divergence="exact")),
            NARROW,
            Setting("bottleneck of 256-16", {**NARROW.changes, **_options(divergence="bottleneck")}, NARROW.name),
        ),
        cost="time",
        retest="noise",
    ),
    Question(
        "amortization",
        "What should the encoder set in the dynamics?",
        (
            DEFAULT,
            *(Setting(f"rank {rank}", _options(amortization="low_rank", rank=rank)) for rank in (1, 4, 20)),
            *(
                Setting(name.replace("_", " "), _options(amortization=name))
                for name in ("concat", "last_layer", "hyper")
            ),
        ),
        cost="time",
    ),
    Question(
        "blocks",
        "How many flows in sequence, and to which end time?",
        (
            DEFAULT,
            *(Setting(f"{count} blocks", _options(num_blocks=count)) for count in (2, 4)),
            *(Setting(f"T = {time:g}", _options(integration_time=time)) for time in (0.25, 1.0, 2.0)),
        ),
    ),
    Question(
        "gradient",
        "Do path gradients train better than reparameterised ones?",
        (DEFAULT, Setting("path gradients", {"training.gradient": "path"})),
        cost="time",
    ),
    Question(
        "length",
        "What does the time that path gradients take gain in epochs?",
        (DEFAULT, Setting("22 epochs", {"training.max_epochs": 22})),
        cost="time",
    ),
)


def find_questions(names: Iterable[str]) -> Sequence[Question]:
    """Return questions by their names, all where none are given.

    Raises:
        UnknownNameError: There is none of a name.
    """
    known = {question.name: question for question in QUESTIONS}
    chosen = []
    for name in names:
        if name not in known:
            raise unknown_name("question", name, known)
        chosen.append(known[name])
    return chosen or QUESTIONS
