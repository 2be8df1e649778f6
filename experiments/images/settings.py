"""What defines one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from vae_flows.cnf import (
    HutchinsonDivergence,
    ImageFlow,
    ODESolver,
    QuantizedDensity,
    UniformDequantization,
    VariationalDequantization,
)
from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive

__all__ = ["PAPER", "ImageSettings", "build_density", "paper_settings"]

LEVELS = 256


@dataclass(frozen=True)
class ImageSettings:
    """Images to learn, the flow that learns them, its training and its test.

    Arguments:
        data: Name of a data set of grey or colour images, or a folder or file of them.
        seed: Seed of weights, noise and order.
        num_scales: Scales of the flow.
        flows_per_scale: Flows before each squeeze, and after it.
        hidden_channels: Channels of the dynamics' hidden layers.
        logit_margin: λ, by which pixels are kept from the ends of (0, 1) before their logits are taken.
        dequantization: Noise within the cells of pixels: uniform or variational, which is learned.
        train_integration_time: Whether the end time of each flow is learned.
        tolerance: Relative and absolute tolerance of the solver in training.
        test_tolerance: The same in validation, in the test and for samples.
        batch_size: Images per step.
        learning_rate: Of Adam, at its highest.
        warmup_steps: Steps over which it rises.
        decay: Whether it falls to zero along half a cosine over the budget.
        max_gradient_norm: Norm to which gradients are cut.
        epochs: Budget of training in passes over the data, or none.
        seconds: Budget of training in seconds of processor time, of all threads together, or none.
        test_size: Images of the test, the first ones, or all.

    Raises:
        InvalidInputError: A value is out of range, or there is not just one budget.
    """

    data: str = "frey-faces"
    seed: int = 0
    num_scales: int = 1
    flows_per_scale: int = 1
    hidden_channels: tuple[int, ...] = (16, 16)
    logit_margin: float = 0.05
    dequantization: Literal["uniform", "variational"] = "uniform"
    train_integration_time: bool = True
    tolerance: float = 1e-2
    test_tolerance: float = 1e-4
    batch_size: int = 8
    learning_rate: float = 2e-2
    warmup_steps: int = 20
    decay: bool = True
    max_gradient_norm: float = 10.0
    epochs: int | None = None
    seconds: float | None = 180.0
    test_size: int | None = 500

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name in ("num_scales", "flows_per_scale", "batch_size"):
            require_positive(owner, **{name: getattr(self, name)})
        for name in ("tolerance", "test_tolerance", "learning_rate", "max_gradient_norm"):
            require_number(owner, name, getattr(self, name), above=0.0)
        if not is_integer(self.seed) or not 0 <= self.seed < 2**63:
            raise InvalidInputError(complaint(f"{owner} seed", "an integer from 0 to 2**63 - 1", repr(self.seed)))
        if (self.epochs is None) == (self.seconds is None):
            got = f"epochs={self.epochs} and seconds={self.seconds}"
            raise InvalidInputError(complaint(owner, "a budget in epochs or in seconds", got))
        for name in ("epochs", "seconds", "test_size"):
            if getattr(self, name) is not None:
                require_number(owner, name, getattr(self, name), above=0.0)


PAPER = ImageSettings(
    flows_per_scale=2,
    hidden_channels=(64, 64, 64),
    logit_margin=1e-6,
    tolerance=1e-5,
    test_tolerance=1e-5,
    batch_size=200,
    learning_rate=1e-3,
    warmup_steps=1000,
    decay=False,
    max_gradient_norm=1e10,
    epochs=1000,
    seconds=None,
    test_size=None,
)
"""Settings of the published runs (Grathwohl et al. 2019, section 4.1, and the authors' `train_cnf.py`)."""

_PAPER_SCALES: Mapping[str, int] = {"mnist": 3, "cifar10": 4}


def paper_settings(data: str, *, multiscale: bool) -> ImageSettings:
    """Return the published settings for a data set: scales until a side is below 8 pixels, or one.

    Raises:
        InvalidInputError: The paper has no such data set.

    Example:
        >>> paper_settings("mnist", multiscale=True).num_scales
        3
    """
    if data not in _PAPER_SCALES:
        raise InvalidInputError(complaint("data of the paper preset", " or ".join(_PAPER_SCALES), repr(data)))
    return replace(PAPER, data=data, num_scales=_PAPER_SCALES[data] if multiscale else 1)


def build_density(settings: ImageSettings, image_shape: tuple[int, int, int]) -> QuantizedDensity:
    """Build the untrained density of a run; its weights follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        flow = ImageFlow(
            image_shape,
            num_scales=settings.num_scales,
            flows_per_scale=settings.flows_per_scale,
            hidden_channels=settings.hidden_channels,
            logit_margin=settings.logit_margin,
            train_integration_time=settings.train_integration_time,
            divergence=HutchinsonDivergence("rademacher"),
            eval_divergence=HutchinsonDivergence("rademacher"),
            solver=_solver(settings.tolerance),
            eval_solver=_solver(settings.test_tolerance),
        )
        if settings.dequantization == "variational":
            return QuantizedDensity(flow, VariationalDequantization(image_shape, LEVELS))
        return QuantizedDensity(flow, UniformDequantization(LEVELS))


def _solver(tolerance: float) -> ODESolver:
    return ODESolver(rtol=tolerance, atol=tolerance)
