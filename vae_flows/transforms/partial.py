"""A transform of some coordinates, which leaves the others as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.transforms.base import EvaluatedTransform, FusedTransform
from vae_flows.transforms.records import Evaluation

__all__ = ["PartialTransform"]


class PartialTransform(EvaluatedTransform):
    """A transform T of the first d of D coordinates: y = (T(x_1, …, x_d), x_{d+1}, …, x_D).

    What a multi-scale flow has factored out are the others (Dinh et al. 2017, section 3.6).

    Arguments:
        part: T, of latent dimension d.
        latent_dim: D, at least d.
        cache_size: 0 or 1. The part keeps nothing; this transform keeps its end points.

    Raises:
        InvalidInputError: The part has no latent dimension, or one above D.

    Example:
        >>> from vae_flows.transforms import ReverseTransform
        >>> transform = PartialTransform(ReverseTransform(2, ()), 3)
        >>> transform(torch.tensor([0.0, 1.0, 2.0]))
        tensor([1., 0., 2.])
    """

    @checked
    def __init__(self, part: FusedTransform, latent_dim: int, *, cache_size: int = 1) -> None:
        if part.latent_dim is None or part.latent_dim > latent_dim:
            expected = f"a transform of at most {latent_dim} coordinates"
            raise InvalidInputError(complaint("PartialTransform part", expected, f"one of {part.latent_dim}"))
        super().__init__(latent_dim, part.batch_shape, cache_size=cache_size)
        self.part = part
        self.takes_double = part.takes_double

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        first, others = self._split(x)
        evaluation = self.part.forward_evaluation(first)
        return evaluation._replace(x=x, y=_joined(evaluation.y, others))

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        first, others = self._split(y)
        evaluation = self.part.inverse_evaluation(first)
        return evaluation._replace(x=_joined(evaluation.x, others), y=y)

    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation:
        first, others = self._split(x)
        of_first, of_others = self._split(score.detach())
        evaluation = self.part.scored_evaluation(first, of_first)
        carried = _joined(cast(Tensor, evaluation.score), of_others)
        return evaluation._replace(x=x, y=_joined(evaluation.y, others), score=carried)

    @property
    def is_regularized(self) -> bool:
        return self.part.is_regularized

    @property
    def is_estimated(self) -> bool:
        return self.part.is_estimated

    def exact(self) -> FusedTransform:
        part = self.part.exact()
        return self if part is self.part else PartialTransform(part, cast(int, self.latent_dim))

    def adopt(self, other: FusedTransform) -> None:
        self.part.adopt(cast(PartialTransform, other).part)

    def dependencies(self) -> Sequence[Tensor]:
        return self.part.sources()

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count = cast(int, self.part.latent_dim)
        return x[..., :count], x[..., count:]


def _joined(first: Tensor, others: Tensor) -> Tensor:
    return torch.cat([first, others.expand(*first.shape[:-1], -1)], -1)
