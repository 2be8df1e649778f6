"""What every transform of the library shares: fused value and log-det, checks, and a cache that cannot go stale."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.shapes import broadcast_batch

__all__ = ["ChainTransform", "FusedTransform", "IdentityTransform", "ReverseTransform"]


class _Evaluation(NamedTuple):
    x: Tensor
    y: Tensor
    log_det: Tensor
    versions: tuple[int, ...]


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _full_precision(x: Tensor) -> torch.autocast:
    """Suspend automatic mixed precision: log-densities summed in 16 bits are off by tenths of a nat."""
    return torch.autocast(x.device.type, enabled=False)


class FusedTransform(Transform):
    r"""An invertible map of vectors whose value and :math:`\log|\det \partial y/\partial x|` come from one computation.

    Subclasses write two primitives, `forward_with_log_det` and `inverse_with_log_det`; everything that
    `torch.distributions` and Pyro ask of a transform derives from them. Latents are `(*sample, *batch, D)`,
    log-determinants `(*sample, *batch)`; `*batch` is the batch shape of the parameters, against which latents
    broadcast.

    The latest evaluation is kept when `cache_size` is 1, so that scoring a sample just drawn costs nothing. It is used
    only while the identical tensors come back and neither they nor a tensor of `dependencies` was changed in place.

    Arguments:
        latent_dim: D, or `None` where any will do.
        batch_shape: Batch shape of the parameters.
        cache_size: 0 or 1.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, latent_dim: int | None, batch_shape: Size, *, cache_size: int = 1) -> None:
        super().__init__(cache_size=cache_size)
        self.latent_dim = latent_dim
        self.batch_shape = batch_shape
        self._latest: _Evaluation | None = None

    @abstractmethod
    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x (*sample, *batch, D)` to `y` of that shape and the log-determinant `(*sample, *batch)`."""

    @abstractmethod
    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map `y` back to `x`; the log-determinant is that of the *forward* map at `x`."""

    @property
    def inv(self) -> Transform:
        """The inverse map.

        It is not kept, as torch does: transform and inverse would hold each other, and with them the latest
        evaluation's graph, until the garbage collector comes by. Both share the one cache here all the same.
        """
        inverse = super().inv
        self._inv = None
        return inverse

    @property
    def regularization(self) -> Tensor | None:
        """What the latest evaluation adds to the loss, `(*sample, *batch)`; `None` for nothing."""
        return None

    def dependencies(self) -> Sequence[Tensor]:
        """Tensors that may be changed in place while the transform lives, such as an optimiser's parameters."""
        return ()

    def broadcast_shape(self, z: Tensor) -> Size:
        """Check latents `z` and return `(*sample, *batch)` after broadcasting against the parameters."""
        return broadcast_batch(type(self).__name__, z, self.latent_dim, self.batch_shape)

    def __call__(self, x: Tensor) -> Tensor:
        latest = self._valid_latest()
        if latest is not None and x is latest.x:
            return latest.y
        self.broadcast_shape(x)
        with _full_precision(x):
            y, log_det = self.forward_with_log_det(x)
        self._remember(x, y, log_det)
        return y

    def _inv_call(self, y: Tensor) -> Tensor:
        latest = self._valid_latest()
        if latest is not None and y is latest.y:
            return latest.x
        self.broadcast_shape(y)
        with _full_precision(y):
            x, log_det = self.inverse_with_log_det(y)
        self._remember(x, y, log_det)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return :math:`\\log|\\det \\partial y/\\partial x|` at `x`, shape `(*sample, *batch)`."""
        latest = self._valid_latest()
        if latest is not None and x is latest.x and y is latest.y:
            return latest.log_det
        self.broadcast_shape(x)
        with _full_precision(x):
            return self.forward_with_log_det(x)[1]

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return torch.broadcast_shapes(tuple(shape), (*self.batch_shape, 1))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return self.forward_shape(shape)

    def with_cache(self, cache_size: int = 1) -> FusedTransform:
        """Return this transform with another cache size; the parameters are shared."""
        if cache_size == self._cache_size:
            return self
        if cache_size not in (0, 1):
            raise InvalidInputError(complaint("cache_size", "0 or 1", cache_size))
        other = copy.copy(self)
        other._cache_size = cache_size
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_latest": None}

    def _call(self, x: Tensor) -> Tensor:
        return self.forward_with_log_det(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_with_log_det(y)[0]

    def _versions(self, x: Tensor, y: Tensor) -> tuple[int, ...]:
        return tuple(_version(tensor) for tensor in (x, y, *self.dependencies()))

    def _remember(self, x: Tensor, y: Tensor, log_det: Tensor) -> None:
        if self._cache_size:
            self._latest = _Evaluation(x, y, log_det, self._versions(x, y))

    def _valid_latest(self) -> _Evaluation | None:
        latest = self._latest
        if latest is not None and latest.versions != self._versions(latest.x, latest.y):
            self._latest = latest = None
        return latest


class IdentityTransform(FusedTransform):
    """The map y = x, the posterior without a flow."""

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)


class ReverseTransform(FusedTransform):
    """The permutation y = (x_D, …, x_1), which lets the next autoregressive layer see the other order."""

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.flip(-1).expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)


class ChainTransform(FusedTransform):
    r"""The composition :math:`T_K \circ \dots \circ T_1` of fused transforms, with the sum of their log-determinants.

    Arguments:
        parts: The transforms in order of application, all of one latent dimension.
        cache_size: 0 or 1. The parts keep nothing; the chain keeps its end points.
    """

    def __init__(self, parts: Sequence[FusedTransform], *, cache_size: int = 1) -> None:
        if not parts or len({part.latent_dim for part in parts}) != 1:
            raise InvalidInputError(
                complaint("ChainTransform", "transforms of one latent dimension", [part.latent_dim for part in parts])
            )
        batch_shape = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        super().__init__(parts[0].latent_dim, batch_shape, cache_size=cache_size)
        self.parts = tuple(parts)

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(self.broadcast_shape(x))
        for part in self.parts:
            x, log_det = part.forward_with_log_det(x)
            total = total + log_det
        return x, total

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(self.broadcast_shape(y))
        for part in reversed(self.parts):
            y, log_det = part.inverse_with_log_det(y)
            total = total + log_det
        return y, total

    @property
    def regularization(self) -> Tensor | None:
        found = [part.regularization for part in self.parts if part.regularization is not None]
        return torch.stack(found).sum(0) if found else None

    def dependencies(self) -> Sequence[Tensor]:
        return [tensor for part in self.parts for tensor in part.dependencies()]
