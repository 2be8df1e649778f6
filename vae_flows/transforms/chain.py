"""The composition of transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.shapes import broadcast_shapes
from vae_flows.transforms.base import EvaluatedTransform, FusedTransform
from vae_flows.transforms.double_inverse import invert_in_double
from vae_flows.transforms.records import Evaluation

__all__ = ["ChainTransform"]


class ChainTransform(EvaluatedTransform):
    r"""The composition :math:`T_K \circ \dots \circ T_1` of fused transforms, with the sum of their log-determinants.

    Arguments:
        parts: The transforms in order of application, all of one latent dimension.
        cache_size: 0 or 1. The parts keep nothing; the chain keeps its end points.
    """

    @checked
    def __init__(self, parts: Sequence[FusedTransform], *, cache_size: int = 1) -> None:
        if not parts or any(part.latent_dim != parts[0].latent_dim for part in parts):
            raise InvalidInputError(
                complaint("ChainTransform", "transforms of one latent dimension", [part.latent_dim for part in parts])
            )
        try:
            batch_shape = broadcast_shapes(*(part.batch_shape for part in parts))
        except RuntimeError:
            shapes = [tuple(part.batch_shape) for part in parts]
            raise InvalidInputError(complaint("ChainTransform", "batch shapes that broadcast", shapes)) from None
        super().__init__(parts[0].latent_dim, batch_shape, cache_size=cache_size)
        self.parts = tuple(parts)
        self.takes_double = all(part.takes_double for part in parts)

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        found, point = [], x
        for part in self.parts:
            found.append(part.forward_evaluation(point))
            point = found[-1].y
        return self._joined(x, point, found)

    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation:
        found, point = [], x
        for part in self.parts:
            found.append(part.scored_evaluation(point, score))
            point, score = found[-1].y, cast(Tensor, found[-1].score)
        return self._joined(x, point, found)._replace(score=score)

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        if self.takes_double:
            x, log_det = invert_in_double(self, self._invert, y)
            return Evaluation(x, y, log_det)
        return self._inverted_parts(y)

    def _invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        evaluation = self._inverted_parts(y)
        return evaluation.x, evaluation.log_det

    def _inverted_parts(self, y: Tensor) -> Evaluation:
        found, point = [], y
        for part in reversed(self.parts):
            found.append(part.inverse_evaluation(point))
            point = found[-1].x
        return self._joined(point, y, found)

    @property
    def is_regularized(self) -> bool:
        return any(part.is_regularized for part in self.parts)

    @property
    def is_estimated(self) -> bool:
        return any(part.is_estimated for part in self.parts)

    def exact(self) -> FusedTransform:
        if not self.is_estimated:
            return self
        chain, build = ChainTransform([part.exact() for part in self.parts], cache_size=self._cache_size), self._build
        chain._mark = self._mark
        return chain if build is None else chain.renewed_by(lambda: build().exact())

    def adopt(self, other: FusedTransform) -> None:
        for part, new in zip(self.parts, cast(ChainTransform, other).parts, strict=True):
            part.adopt(new)

    def dependencies(self) -> Sequence[Tensor]:
        return [tensor for part in self.parts for tensor in part.sources()]

    def _joined(self, x: Tensor, y: Tensor, found: Sequence[Evaluation]) -> Evaluation:
        total = x.new_zeros(self.broadcast_shape(x))
        for evaluation in found:
            total = total + evaluation.log_det
        extra = [part.regularization for part in found if part.regularization is not None]
        meters = tuple(meter for part in found for meter in part.meters)
        return Evaluation(x, y, total, None, torch.stack(extra).sum(0) if extra else None, meters)
