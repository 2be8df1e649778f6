r"""How a model is trained, and on what.

The defaults are the benchmark's: Adamax with learning rate 5e-4 and epsilon 1e-7, batches of 100, at most 2,000 epochs,
the KL term weighted by β = min(epoch / 100, 1), one sample per image, and early stopping after 35 epochs without a
better validation bound, counted after the warm-up of β. They are the settings of van den Berg et al. (2018, "Sylvester
Normalizing Flows for Variational Inference"), which Grathwohl et al. (2019, "FFJORD") took over; the optimiser is that
of Kingma et al. (2016, "Improving Variational Inference with Inverse Autoregressive Flow").
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name
from vae_flows.objectives import GradientEstimator

__all__ = ["ComputeSettings", "Precision", "Strategy", "TrainingSettings", "require_settings"]

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true"]
Strategy = Literal["auto", "ddp"]


@dataclass(frozen=True)
class TrainingSettings:
    """The optimiser, the schedule and the seed.

    Arguments:
        max_epochs: Epochs at most.
        batch_size: Images per step, over all processes together.
        learning_rate: Adamax's step size.
        optimizer_epsilon: Adamax's ε.
        warmup_epochs: Epochs over which β rises to 1; 0 for β = 1 throughout.
        patience: Epochs without a better validation bound after which training stops; those of the warm-up do not
            count.
        max_gradient_norm: Length to which longer gradients are cut, `None` for no limit.
        num_particles: Samples per image in training.
        gradient: Estimator of the ELBO's gradient: `reparameterized`, or `path` for sticking the landing.
        evaluation_batch_size: Images scored at once in validation, per process.
        seed: Decides the order of the images and every random draw; the model's initial weights are the caller's.

    Raises:
        InvalidInputError: A value is out of range.
        UnknownNameError: An unknown gradient.

    Example:
        >>> settings = TrainingSettings(warmup_epochs=10)
        >>> settings.beta(1), settings.beta(10), settings.beta(11)
        (0.1, 1.0, 1.0)
    """

    max_epochs: int = 2000
    batch_size: int = 100
    learning_rate: float = 5e-4
    optimizer_epsilon: float = 1e-7
    warmup_epochs: int = 100
    patience: int = 35
    max_gradient_norm: float | None = None
    num_particles: int = 1
    gradient: GradientEstimator = "reparameterized"
    evaluation_batch_size: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "patience", "num_particles", "evaluation_batch_size"):
            _check_integer(self, name, least=1)
        for name in ("warmup_epochs", "seed"):
            _check_integer(self, name, least=0)
        _check_positive(self, "learning_rate")
        _check_positive(self, "optimizer_epsilon")
        if self.max_gradient_norm is not None:
            _check_positive(self, "max_gradient_norm")
        _check_name("gradient", self.gradient, get_args(GradientEstimator))

    def beta(self, epoch: int) -> float:
        """Return the weight of the KL term in `epoch`, counted from 1: min(epoch / warmup_epochs, 1).

        Raises:
            InvalidInputError: The epoch is no positive integer.
        """
        require_positive("TrainingSettings.beta", epoch=epoch)
        return min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0


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
