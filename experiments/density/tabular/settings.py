"""What defines a comparison of densities of one table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics, ODESolver
from vae_flows.data.images import is_integer
from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive

__all__ = ["TabularSettings", "build_flow"]


@dataclass(frozen=True)
class TabularSettings:
    """A table, the flows that learn it, their training and the test.

    Arguments:
        data: Path of an .npz, .npy or .csv file of rows of numbers, or power:path, gas:path, hepmass:folder,
            miniboone:path or bsds300:path for the literature's five, with the published preprocessing.
        seed: Seed of weights, batches and noise.
        split_seed: Seed of the shuffle that holds out a tenth each for validation and test.
        label_column: A column of a .csv file to leave out.
        seconds: Processor time of the training of each flow, of all threads together.
        patience: Validations without a better one after which a training ends.
        batch_size: Rows per step, drawn with replacement.
        learning_rate: Learning rate of Adam at the start; it falls to zero along half a cosine.
        hidden_dims: Widths of hidden layers: of the dynamics, and of each network of the spline flow.
        num_blocks: Continuous flows in sequence.
        activation: Activation of the dynamics.
        tolerance: Relative and absolute tolerance of the solver in training and validation.
        num_transforms: Transforms of the spline flow in sequence.
        validation_size: Rows of a validation, the first ones at most.
        test_size: Rows of the test, the first ones, or all.
        test_tolerance: Tolerance in the test, which is made in double precision and with the exact trace.

    Raises:
        InvalidInputError: A value is out of range.
    """

    data: str
    seed: int = 0
    split_seed: int | None = None
    label_column: str | None = None
    seconds: float = 300.0
    patience: int = 10
    batch_size: int = 512
    learning_rate: float = 2e-3
    hidden_dims: tuple[int, ...] = (64, 64)
    num_blocks: int = 1
    activation: str = "tanh"
    tolerance: float = 1e-3
    num_transforms: int = 3
    validation_size: int = 2000
    test_size: int | None = None
    test_tolerance: float = 1e-5

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name in ("patience", "batch_size", "num_blocks", "num_transforms", "validation_size"):
            require_positive(owner, **{name: getattr(self, name)})
        for name in ("seconds", "learning_rate", "tolerance", "test_tolerance"):
            require_number(owner, name, getattr(self, name), above=0.0)
        if self.test_size is not None:
            require_positive(owner, test_size=self.test_size)
        if not is_integer(self.seed) or not 0 <= self.seed < 2**63:
            raise InvalidInputError(complaint(f"{owner} seed", "an integer from 0 to 2**63 - 1", repr(self.seed)))
        build_flow(self, 1)  # what is wrong with the flow shows before anything is trained


def build_flow(settings: TabularSettings, size: int) -> ContinuousNormalizingFlow:
    """Build the untrained continuous flow for rows of `size` numbers; its weights follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return ContinuousNormalizingFlow(
            [
                MLPDynamics(size, settings.hidden_dims, activation=settings.activation)
                for _ in range(settings.num_blocks)
            ],
            solver=ODESolver(rtol=settings.tolerance, atol=settings.tolerance),
        )
