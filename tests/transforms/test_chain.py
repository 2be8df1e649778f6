"""What a composition of transforms says of itself is what its parts are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vae_flows.cnf import ContinuousTransform, KineticEnergy, MLPDynamics
from vae_flows.distributions import DiagonalNormal, FlowDistribution, is_estimated, is_regularized
from vae_flows.transforms import ChainTransform, FusedTransform, InverseTransform, PlanarTransform

D = 2


def plain() -> FusedTransform:
    return PlanarTransform(torch.randn(D), torch.randn(D), torch.randn(()))


def continuous(*, estimated: bool, regularized: bool) -> FusedTransform:
    return ContinuousTransform(
        MLPDynamics(D, (4,)).condition(),
        divergence="hutchinson" if estimated else "exact",
        regularizers=[KineticEnergy(0.1)] if regularized else (),
    )


COMPOSE: dict[str, Callable[[FusedTransform], FusedTransform]] = {
    "first": lambda part: ChainTransform([part, plain()]),
    "last": lambda part: ChainTransform([plain(), part]),
    "nested": lambda part: ChainTransform([plain(), ChainTransform([plain(), part])]),
    "inverse": lambda part: InverseTransform(ChainTransform([part, plain()])),
}


@pytest.mark.parametrize("how", COMPOSE)
@pytest.mark.parametrize("estimated", [False, True])
@pytest.mark.parametrize("regularized", [False, True])
def test_a_composition_is_estimated_and_regularised_where_a_part_is(
    how: str, estimated: bool, regularized: bool
) -> None:
    whole = COMPOSE[how](continuous(estimated=estimated, regularized=regularized))
    assert whole.is_estimated is estimated
    assert whole.is_regularized is regularized
    q = FlowDistribution(DiagonalNormal(torch.zeros(D), torch.ones(D)), [plain(), whole])
    assert is_estimated(q) is estimated
    assert is_regularized(q) is regularized
