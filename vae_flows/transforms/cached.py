"""Any transform of torch or Pyro with the cache of this library's transforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import ComposeTransform, IndependentTransform, Transform

from vae_flows.checks import checked, require_sample_shape
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.scored import forward_with_score

__all__ = ["CachedTransform"]


class CachedTransform(FusedTransform):
    """A transform of another library behind the cache of `FusedTransform`, which cannot go stale.

    Without a cache `exp` gives back another tensor than it was given, and the flow before it, which does not know that
    tensor, makes a second solve.

    Arguments:
        transform: Any transform; one of single numbers gives a log-determinant for each.
        cache_size: 0 or 1.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import ExpTransform
        >>> transform, x = CachedTransform(ExpTransform()), torch.randn(3)
        >>> transform.inv(transform(x)) is x
        True
    """

    is_finite = False  # values of others, such as of exp, may lie at the ends of their range

    @checked
    def __init__(self, transform: Transform, *, cache_size: int = 1) -> None:
        super().__init__(None, Size(), cache_size=cache_size)
        self.transform = transform

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> constraints.Constraint:
        return self.transform.domain

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> constraints.Constraint:
        return self.transform.codomain

    @property
    def bijective(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.transform.bijective

    @property
    def sign(self) -> int:
        return self.transform.sign

    # A view is another object, which the transform's own cache, stale or not, does not know.

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.view_as(x)
        y = cast(Tensor, self.transform(x))
        return y, self.transform.log_abs_det_jacobian(x, y)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.view_as(y)
        x = cast(Tensor, self.transform.inv(y))
        return x, self.transform.log_abs_det_jacobian(x, y)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return forward_with_score(self.transform, x, score)

    @property
    def is_estimated(self) -> bool:
        return any(isinstance(part, FusedTransform) and part.is_estimated for part in _parts(self.transform))

    def dependencies(self) -> Sequence[Tensor]:
        attributes = [value for value in vars(self.transform).values() if isinstance(value, Tensor)]
        learned = self.transform.parameters() if isinstance(self.transform, nn.Module) else ()
        return (*attributes, *learned)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        require_sample_shape("CachedTransform shape", shape)
        return Size(self.transform.forward_shape(Size(shape)))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        require_sample_shape("CachedTransform shape", shape)
        return Size(self.transform.inverse_shape(Size(shape)))


def _parts(transform: Transform) -> Iterator[Transform]:
    """Yield what torch's compositions are made of, or else the transform itself."""
    if isinstance(transform, ComposeTransform):
        for part in transform.parts:
            yield from _parts(part)
    elif isinstance(transform, IndependentTransform):
        yield from _parts(transform.base_transform)
    else:
        yield transform
