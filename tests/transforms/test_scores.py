"""The scores that transforms carry by a formula of their own are those of automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_flows import transforms
from vae_flows.transforms import (
    CachedTransform,
    ChainTransform,
    FusedTransform,
    IdentityTransform,
    PartialTransform,
    PermutationTransform,
    PlanarTransform,
    ReverseTransform,
    SylvesterTransform,
    orthonormalize,
)

ROUNDING = 1e-9  # float64, amplified by the inverse Jacobian of maps that are not steep
D = 4


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def planar(*batch: int) -> FusedTransform:
    return PlanarTransform(normal(*batch, D), normal(*batch, D), normal(*batch))


def sylvester(*batch: int, rank: int = 3) -> FusedTransform:
    # Off-diagonals on both sides, and a product of diagonals above −1.
    diagonal = torch.diag_embed(torch.tanh(normal(*batch, rank)))
    R1, R2 = normal(*batch, rank, rank).triu(1) + diagonal, normal(*batch, rank, rank).triu(1) + 0.9 * diagonal
    return SylvesterTransform(orthonormalize(normal(*batch, D, rank)), R1, R2, normal(*batch, rank))


MAKE: dict[type[FusedTransform], Callable[..., FusedTransform]] = {
    IdentityTransform: lambda *batch: IdentityTransform(D, batch),
    ReverseTransform: lambda *batch: ReverseTransform(D, batch),
    PlanarTransform: planar,
    SylvesterTransform: sylvester,
    PermutationTransform: lambda *batch: PermutationTransform(torch.randperm(D)),
    PartialTransform: lambda *batch: PartialTransform(
        PlanarTransform(normal(*batch, D - 1), normal(*batch, D - 1), normal(*batch)), D
    ),
    ChainTransform: lambda *batch: ChainTransform([planar(*batch), ReverseTransform(D, batch), sylvester(*batch)]),
}


def test_every_transform_with_a_formula_of_its_own_is_compared() -> None:
    found = {
        kind
        for kind in vars(transforms).values()
        if isinstance(kind, type) and vars(kind).keys() & {"forward_with_score", "scored_evaluation"}
    }
    # The former is the general way, the latter takes it for transforms of other libraries.
    assert found - {FusedTransform, CachedTransform} == set(MAKE)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("sample", "batch"), [((), ()), ((5,), ()), ((), (3,)), ((5,), (3,)), ((2, 5), (3, 1))])
def test_scores_are_those_of_automatic_differentiation(
    kind: type[FusedTransform], sample: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    transform = MAKE[kind](*batch)
    x, score = normal(2, *sample, *batch, D)
    found = transform.forward_with_score(x, score)
    expected = FusedTransform.forward_with_score(transform, x, score)
    for actual, other in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, other, rtol=ROUNDING, atol=ROUNDING)
