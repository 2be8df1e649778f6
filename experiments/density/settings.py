"""What defines one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_flows.cnf import ContinuousNormalizingFlow, JacobianNorm, KineticEnergy, MLPDynamics, ODESolver
from vae_flows.cnf.divergence import Noise, divergence_from
from vae_flows.cnf.layers import TimeConditioning
from vae_flows.data import toy_density
from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive

__all__ = ["ALL", "DensitySettings", "build_flow"]

ALL = "all"
"""In place of a density's name, for the command line: each of them."""


@dataclass(frozen=True)
class DensitySettings:
    """A density to learn, the flow that learns it, its training and its test.

    Arguments:
        data: 8gaussians, checkerboard, moons, 2spirals, rings, pinwheel or swissroll; for the command line also all.
        seed: Seed of weights and draws.
        hidden_dims: Widths of the dynamics' hidden layers.
        num_blocks: Flows in sequence.
        activation: Activation of the dynamics, such as sine or tanh.
        time_conditioning: How the dynamics depend on time.
        integration_time: Time from the Gaussian to the data, of each block.
        divergence: Trace in training: hutchinson, exact or bottleneck.
        noise: Noise of an estimate.
        num_probes: Draws of noise averaged in an estimate.
        steps: Steps of Adam; the learning rate falls to zero along half a cosine.
        batch_size: Points per step, drawn anew for each.
        learning_rate: Learning rate at the start.
        tolerance: Relative and absolute tolerance of the solver in training.
        end_time_jitter: Half the range from which the end time is drawn in training.
        kinetic_energy: Weight of the kinetic energy in the loss.
        jacobian_norm: Weight of the Jacobian's norm in the loss.
        test_size: Points of the test.
        test_tolerance: Tolerance in the test, which is made in double precision and with the exact trace.

    Raises:
        InvalidInputError: A value is out of range.
    """

    data: str = "8gaussians"
    seed: int = 0
    hidden_dims: tuple[int, ...] = (64, 64, 64)
    num_blocks: int = 1
    activation: str = "sine"
    time_conditioning: TimeConditioning = "concat"
    integration_time: float = 1.0
    divergence: str = "hutchinson"
    noise: Noise = "rademacher"
    num_probes: int = 1
    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 1e-2
    tolerance: float = 1e-3
    end_time_jitter: float = 0.0
    kinetic_energy: float = 0.0
    jacobian_norm: float = 0.0
    test_size: int = 10_000
    test_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        owner = "DensitySettings"
        for name in ("num_blocks", "num_probes", "steps", "batch_size", "test_size"):
            require_positive(owner, **{name: getattr(self, name)})
        for name in ("learning_rate", "integration_time", "tolerance", "test_tolerance"):
            require_number(owner, name, getattr(self, name), above=0.0)
        for name in ("end_time_jitter", "kinetic_energy", "jacobian_norm"):
            require_number(owner, name, getattr(self, name), least=0.0)
        if not is_integer(self.seed) or not 0 <= self.seed < 2**63:
            raise InvalidInputError(complaint(f"{owner} seed", "an integer from 0 to 2**63 - 1", repr(self.seed)))
        if self.data != ALL:
            toy_density(self.data)
        build_flow(self)  # what is wrong with the flow, its solvers too, shows before anything is trained


def build_flow(settings: DensitySettings) -> ContinuousNormalizingFlow:
    """Build the untrained flow of a run; its weights follow from the seed alone."""
    weights = {KineticEnergy: settings.kinetic_energy, JacobianNorm: settings.jacobian_norm}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return ContinuousNormalizingFlow(
            [
                MLPDynamics(
                    2,
                    settings.hidden_dims,
                    activation=settings.activation,
                    time_conditioning=settings.time_conditioning,
                )
                for _ in range(settings.num_blocks)
            ],
            integration_time=settings.integration_time,
            end_time_jitter=settings.end_time_jitter,
            divergence=divergence_from(settings.divergence, settings.noise, settings.num_probes),
            solver=ODESolver(rtol=settings.tolerance, atol=settings.tolerance),
            eval_solver=ODESolver(rtol=settings.test_tolerance, atol=settings.test_tolerance),
            regularizers=[regularizer(weight) for regularizer, weight in weights.items() if weight],
        )
