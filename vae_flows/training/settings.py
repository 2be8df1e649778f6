r"""How a model is trained, and on what.

The defaults are the benchmark's: Adamax with learning rate 5e-4 and epsilon 1e-7, batches of 100, at most 2,000 epochs,
the KL term weighted by β = min(epoch / 100, 1), one sample per image, and early stopping after 35 epochs without a
better validation bound, counted after the warm-up of β. They are the settings of van den Berg et al. (2018, "Sylvester
Normalizing Flows for Variational Inference"), which Grathwohl et al. (2019, "FFJORD") took over; the optimiser is that
of Kingma et al. (2016, "Improving Variational Inference with Inverse Autoregressive Flow").
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name
from vae_flows.objectives import GradientEstimator
from vae_flows.persistence.configuration import settled
from vae_flows.training.objectives import OBJECTIVES, Objective, ObjectiveName
from vae_flows.training.optimizers import check_optimizer
from vae_flows.training.rows import make_row
from vae_flows.training.schedules import SCHEDULES, LearningRate, Schedule, ScheduleName, Span

__all__ = ["ComputeSettings", "Precision", "Strategy", "TrainingSettings", "require_settings"]

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"]
Strategy = Literal["auto", "ddp"]
LoggerName = Literal["csv", "tensorboard", "wandb", "mlflow"]
ADAMAX, EPSILON = "Adamax", 1e-7


@dataclass(frozen=True)
class TrainingSettings:
    """The optimiser, the schedule and the seed.

    Arguments:
        max_epochs: Epochs at most.
        batch_size: Images per batch, over all processes together; a step is of `accumulate_batches`.
        learning_rate: The optimiser's step size.
        optimizer_epsilon: Adamax's ε; other optimisers have theirs, `eps`, among their options.
        warmup_epochs: Epochs over which β, the weight of the KL term, rises to 1, or to that of the objective `beta`; 0
            for none. Other bounds have the weights p(x | z) (p(z) / q(z))^β.
        patience: Epochs without a better validation bound after which training stops; those of the warm-up do not
            count.
        max_gradient_norm: Length to which longer gradients are cut, `None` for no limit.
        num_particles: Samples per image in training.
        gradient: Estimator of the objective's gradient: `reparameterized`, or `path` for sticking the landing and, in
            bounds of several particles, doubly reparameterised gradients.
        evaluation_batch_size: Images scored at once in validation, per process.
        seed: Decides the order of the images and every random draw; the model's initial weights are the caller's.
        optimizer: Name of an optimiser of `torch.optim`.
        optimizer_options: Its options beside the learning rate, by PyTorch's names.
        schedule: Name of what the learning rate does after its warm-up: `constant`; `cosine`, with `epochs`, `minimum`;
            `step`, with `epochs`, `factor`; `plateau`, with `patience`, `factor`, `minimum`.
        schedule_options: Its options; see `vae_flows.training.schedules`.
        learning_rate_warmup_epochs: n, epochs over which the learning rate rises: epoch e has the share min(e / n, 1);
            0 for none.
        objective: Name of what is maximised: `elbo`; `beta`, with `beta`; `importance_weighted`; `renyi`, with `alpha`.
            The last two take several particles.
        objective_options: Its options.
        ema_decay: Decay of an exponential moving average of the weights, which then are those that are validated, kept
            and left to the model; `None` for none.
        accumulate_batches: Batches whose gradients make one step.
        loggers: Names of what the training is told to: `csv`, the table of epochs that `vf.Run` reads, `tensorboard`,
            `wandb`, `mlflow`.

    Raises:
        InvalidInputError: A value is out of range, an optimiser cannot train here, or a schedule never ends or has no
            effect.
        UnknownNameError: An unknown gradient, optimiser, schedule or objective.

    Example:
        >>> settings = TrainingSettings(warmup_epochs=10)
        >>> settings.beta(1), settings.beta(10), settings.beta(11)
        (0.1, 1.0, 1.0)
        >>> settings = TrainingSettings(optimizer="AdamW", optimizer_options={"weight_decay": 0.1}, schedule="cosine")
        >>> settings.resolved_schedule_options()
        {'epochs': 2000, 'minimum': 0.0}
    """

    max_epochs: int = 2000
    batch_size: int = 100
    learning_rate: float = 5e-4
    optimizer_epsilon: float = EPSILON
    warmup_epochs: int = 100
    patience: int = 35
    max_gradient_norm: float | None = None
    num_particles: int = 1
    gradient: GradientEstimator = "reparameterized"
    evaluation_batch_size: int = 100
    seed: int = 0
    optimizer: str = ADAMAX
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    schedule: ScheduleName = "constant"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate_warmup_epochs: int = 0
    objective: ObjectiveName = "elbo"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    ema_decay: float | None = None
    accumulate_batches: int = 1
    loggers: tuple[LoggerName, ...] = ("csv", "tensorboard")

    def __post_init__(self) -> None:
        for name in (
            "max_epochs",
            "batch_size",
            "patience",
            "num_particles",
            "evaluation_batch_size",
            "accumulate_batches",
        ):
            _check_integer(self, name, least=1)
        for name in ("warmup_epochs", "seed", "learning_rate_warmup_epochs"):
            _check_integer(self, name, least=0)
        _check_positive(self, "learning_rate")
        _check_positive(self, "optimizer_epsilon")
        if self.max_gradient_norm is not None:
            _check_positive(self, "max_gradient_norm")
        if self.ema_decay is not None:
            _check_positive(self, "ema_decay")
            if self.ema_decay >= 1:
                subject, expected = "TrainingSettings ema_decay", "a number between 0 and 1"
                raise InvalidInputError(complaint(subject, expected, repr(self.ema_decay)))
        if not isinstance(self.loggers, tuple | list) or len(set(map(str, self.loggers))) < len(self.loggers):
            subject, expected = "TrainingSettings loggers", "a sequence of different names"
            raise InvalidInputError(complaint(subject, expected, repr(self.loggers)))
        for name in self.loggers:
            _check_name("logger", name, get_args(LoggerName))
        object.__setattr__(self, "loggers", tuple(self.loggers))
        _check_name("gradient", self.gradient, get_args(GradientEstimator))
        self._check_optimizer()
        for name in ("optimizer_options", "schedule_options", "objective_options"):
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, settled(getattr(self, name)))
        self._check_warmup()
        self._resolved_schedule()
        self.make_objective().check(self.num_particles)

    def beta(self, epoch: int) -> float:
        """Return the weight of the KL term in `epoch`, counted from 1: min(epoch / warmup_epochs, 1).

        The objective `beta` multiplies it by its own.

        Raises:
            InvalidInputError: The epoch is no positive integer.
        """
        require_positive("TrainingSettings.beta", epoch=epoch)
        share = min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        return share * self.make_objective().kl_weight

    def resolved_optimizer_options(self) -> dict[str, Any]:
        """Return the options that the optimiser is made with."""
        epsilon = {"eps": self.optimizer_epsilon} if self.optimizer == ADAMAX else {}
        return {**epsilon, **self.optimizer_options}

    def resolved_schedule_options(self) -> dict[str, Any]:
        """Return all options of the schedule, with those that follow from other settings."""
        return asdict(self._resolved_schedule())

    def start_schedule(self) -> LearningRate:
        """Return the learning rate of the first epoch, from which it goes on epoch by epoch."""
        return LearningRate(self._resolved_schedule(), self._span())

    def make_objective(self) -> Objective:
        """Return what training maximises."""
        return make_row("objective", OBJECTIVES, self.objective, self.objective_options)

    def _resolved_schedule(self) -> Schedule:
        return make_row("schedule", SCHEDULES, self.schedule, self.schedule_options).resolved(self._span())

    def _span(self) -> Span:
        first = max(self.learning_rate_warmup_epochs, 1)
        return Span(self.learning_rate, first, self.max_epochs, self.patience, max(first, self.warmup_epochs))

    def _check_optimizer(self) -> None:
        check_optimizer("TrainingSettings", self.optimizer, self.optimizer_options)
        if self.optimizer == ADAMAX:
            option, given = "optimizer_options eps", self.optimizer_options.get("eps")
            expected, remedy = "none for Adamax", "Set optimizer_epsilon."
        else:
            option, given = "optimizer_epsilon", self.optimizer_epsilon if self.optimizer_epsilon != EPSILON else None
            expected, remedy = f"none for {self.optimizer}", "Set eps among optimizer_options, if it has one."
        if given is not None:
            raise InvalidInputError(complaint(f"TrainingSettings {option}", expected, repr(given), remedy))

    def _check_warmup(self) -> None:
        subject, epochs = "TrainingSettings learning_rate_warmup_epochs", self.learning_rate_warmup_epochs
        if epochs == 1:
            raise InvalidInputError(complaint(subject, "0 or at least 2 epochs in which it rises", 1))
        if epochs > self.max_epochs:
            expected = f"an end within the training, at most max_epochs={self.max_epochs}"
            raise InvalidInputError(complaint(subject, expected, epochs))


@dataclass(frozen=True)
class ComputeSettings:
    """The hardware, passed on to Lightning Fabric.

    Arguments:
        accelerator: `auto`, `cpu`, `gpu`, `cuda`, `mps`, …
        devices: Number of devices, one process each; on the CPU no more than it has processors (two on any).
        precision: `32-true`, `64-true`, `bf16-mixed`, `16-mixed`, `bf16-true` or `16-true`. The last two keep the
            densities themselves in 16 bits, which training warns of.
        strategy: `ddp` for data-parallel processes; `auto` takes it for more than one device.

    Raises:
        InvalidInputError: A value is out of range.
        UnknownNameError: An unknown precision or strategy.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: Precision = "32-true"
    strategy: Strategy = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.accelerator, str) or not self.accelerator:
            expected = "a name, such as auto, cpu or gpu"
            raise InvalidInputError(complaint("ComputeSettings accelerator", expected, repr(self.accelerator)))
        _check_integer(self, "devices", least=1)
        _check_name("precision", self.precision, get_args(Precision))
        _check_name("strategy", self.strategy, get_args(Strategy))


def require_settings(name: str, value: object, kind: type) -> None:
    """Check that an argument is settings of a class.

    Raises:
        InvalidInputError: It is something else, such as a dictionary.
    """
    if not isinstance(value, kind):
        got = f"{type(value).__name__} {value!r}" if not isinstance(value, type) else f"the class {value.__name__}"
        remedy = f"Pass {kind.__name__}(…)." if not isinstance(value, dict) else f"Pass {kind.__name__}(**{name})."
        raise InvalidInputError(complaint(f"{name} of train", f"{kind.__name__}", got, remedy))


def _check_integer(settings: Any, name: str, least: int) -> None:
    value = getattr(settings, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidInputError(
            complaint(f"{type(settings).__name__} {name}", f"an integer of at least {least}", repr(value))
        )


def _check_positive(settings: Any, name: str) -> None:
    value = getattr(settings, name)
    # Compared with the largest float because integers may be larger.
    if not isinstance(value, float | int) or isinstance(value, bool) or not (0 < value <= sys.float_info.max):
        raise InvalidInputError(complaint(f"{type(settings).__name__} {name}", "a positive number", repr(value)))
    if type(value) not in (float, int):  # NumPy's, which checkpoints do not hold
        object.__setattr__(settings, name, float(value))


def _check_name(kind: str, name: object, names: tuple[str, ...]) -> None:
    if not isinstance(name, str) or name not in names:
        raise unknown_name(kind, name if isinstance(name, str) else repr(name), names)
