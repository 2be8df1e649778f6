"""What every transform of the library shares: fused value and log-det, checks, and a cache that cannot go stale."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from weakref import ref

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.shapes import broadcast_batch, broadcast_latents
from vae_flows.transforms.precision import full_precision as _full_precision
from vae_flows.transforms.precision import invert_in_double
from vae_flows.transforms.scores import evaluate_with_score

__all__ = [
    "ChainTransform",
    "FusedTransform",
    "IdentityTransform",
    "InverseTransform",
    "ReverseTransform",
    "forward_with_score",
]


class _Evaluation(NamedTuple):
    x: Tensor
    y: Tensor
    log_det: Tensor
    versions: tuple[int, ...]


def _version(tensor: Tensor) -> int:
    # Inference tensors have none, and a graph being compiled knows it only as a symbol.
    return -1 if torch.compiler.is_compiling() or tensor.is_inference() else tensor._version


class FusedTransform(Transform):
    r"""An invertible map of vectors whose value and :math:`\log|\det \partial y/\partial x|` come from one computation.

    Subclasses write two primitives, `forward_with_log_det` and `inverse_with_log_det`; everything that
    `torch.distributions` and Pyro ask of a transform derives from them. Latents are `(*sample, *batch, D)`,
    log-determinants `(*sample, *batch)`; `*batch` is the batch shape of the parameters, against which latents
    broadcast.

    The latest evaluation is kept when `cache_size` is 1, so that scoring a sample just drawn costs nothing. It is used
    only while the identical tensors come back and neither they nor a tensor of `dependencies` was changed in place.
    (Inside one function compiled by `torch.compile`, changes in place cannot be noticed.)

    Arguments:
        latent_dim: D, or `None` where any will do.
        batch_shape: Batch shape of the parameters.
        cache_size: 0 or 1.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    # Whether both primitives compute in float64 when given it, whatever the dtype of the parameters.
    takes_double = False

    def __init__(self, latent_dim: int | None, batch_shape: Size, *, cache_size: int = 1) -> None:
        super().__init__(cache_size=cache_size)
        self.latent_dim = latent_dim
        self.batch_shape = batch_shape
        self._latest: _Evaluation | None = None
        self._inverse_made: ref[InverseTransform] | None = None

    @abstractmethod
    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x (*sample, *batch, D)` to `y` of that shape and the log-determinant `(*sample, *batch)`."""

    @abstractmethod
    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map `y` back to `x`; the log-determinant is that of the *forward* map at `x`."""

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Map x to y and its log-determinant, and carry the score of x to that of y, in one forward evaluation.

        Subclasses that know a shorter way than D vector-Jacobian products override this.

        Source: Vaitl et al. (2024), "Fast and unified path gradient estimators for normalizing flows".

        Arguments:
            x: `(*sample, *batch, D)`.
            score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.

        Returns:
            y, the log-determinant and :math:`J^{-T}(\partial \log q_0/\partial x - \partial \log|\det J|/\partial
            x)`, which is the score of y, without a graph.
        """
        shape = self.broadcast_shape(x) + x.shape[-1:]
        return evaluate_with_score(self.forward_with_log_det, x.expand(shape), score.expand(shape))

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
        shape = Size(shape)
        return broadcast_latents(type(self).__name__, shape, self.latent_dim, self.batch_shape) + shape[-1:]

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

    @property
    def inv(self) -> FusedTransform:
        """The inverse, which shares the remembered evaluation."""
        # Held weakly: a cycle would keep the graph of the latest evaluation until the garbage collector comes by.
        inverse = None if self._inverse_made is None else self._inverse_made()
        if inverse is None:
            inverse = InverseTransform(self)
            self._inverse_made = ref(inverse)
        return inverse

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_latest": None, "_inverse_made": None}

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


class InverseTransform(FusedTransform):
    """The inverse of a fused transform, `transform.inv`; it keeps nothing itself.

    Arguments:
        transform: What is inverted.
    """

    def __init__(self, transform: FusedTransform) -> None:
        super().__init__(transform.latent_dim, transform.batch_shape, cache_size=transform._cache_size)
        self.transform = transform

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> constraints.Constraint:
        return self.transform.codomain

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> constraints.Constraint:
        return self.transform.domain

    @property
    def inv(self) -> FusedTransform:
        return self.transform

    @property
    def regularization(self) -> Tensor | None:
        return self.transform.regularization

    def dependencies(self) -> Sequence[Tensor]:
        return self.transform.dependencies()

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.transform.inverse_with_log_det(x)
        return y, -log_det

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self.transform.forward_with_log_det(y)
        return x, -log_det

    def __call__(self, x: Tensor) -> Tensor:
        return self.transform._inv_call(x)

    def _inv_call(self, y: Tensor) -> Tensor:
        return self.transform(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.transform.log_abs_det_jacobian(y, x)

    def with_cache(self, cache_size: int = 1) -> FusedTransform:
        return self.transform.with_cache(cache_size).inv

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return self.transform.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return self.transform.forward_shape(shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InverseTransform) and self.transform == other.transform


class IdentityTransform(FusedTransform):
    """The map y = x, the posterior without a flow."""

    takes_double = True

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det = self.forward_with_log_det(x)
        return y, log_det, score.detach().expand(y.shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)


class ReverseTransform(FusedTransform):
    """The permutation y = (x_D, …, x_1), which lets the next autoregressive layer see the other order."""

    takes_double = True

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.broadcast_shape(x)
        return x.flip(-1).expand(shape + x.shape[-1:]), x.new_zeros(shape)

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, log_det = self.forward_with_log_det(x)
        return y, log_det, score.detach().flip(-1).expand(y.shape)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_with_log_det(y)


class ChainTransform(FusedTransform):
    r"""The composition :math:`T_K \circ \dots \circ T_1` of fused transforms, with the sum of their log-determinants.

    Arguments:
        parts: The transforms in order of application, all of one latent dimension.
        cache_size: 0 or 1. The parts keep nothing; the chain keeps its end points.
    """

    def __init__(self, parts: Sequence[FusedTransform], *, cache_size: int = 1) -> None:
        if not parts or any(part.latent_dim != parts[0].latent_dim for part in parts):
            raise InvalidInputError(
                complaint("ChainTransform", "transforms of one latent dimension", [part.latent_dim for part in parts])
            )
        batch_shape = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        super().__init__(parts[0].latent_dim, batch_shape, cache_size=cache_size)
        self.parts = tuple(parts)
        self.takes_double = all(part.takes_double for part in parts)

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(self.broadcast_shape(x))
        for part in self.parts:
            x, log_det = part.forward_with_log_det(x)
            total = total + log_det
        return x, total

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = x.new_zeros(self.broadcast_shape(x))
        for part in self.parts:
            x, log_det, score = part.forward_with_score(x, score)
            total = total + log_det
        return x, total, score

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return invert_in_double(self, self._invert, y) if self.takes_double else self._invert(y)

    def _invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
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


def forward_with_score(transform: Transform, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Apply any transform, of this library, PyTorch, Pyro or another, and carry the score of x to that of y.

    Fused transforms remember the evaluation as they do when called. Of other transforms, x is taken in the shape that
    they broadcast it to, and the Jacobian is that of one event.

    Arguments:
        transform: The transform.
        x: `(*shape, *event)`.
        score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.

    Returns:
        y, the log-determinant, and the score of y, of the shape of y and without a graph. Where y has more numbers than
        x, as on a simplex, it is the score in the tangent space.

    Raises:
        InvalidInputError: x or the score has a wrong shape.

    Example:
        >>> from torch.distributions.transforms import ExpTransform
        >>> y, log_det, score = forward_with_score(ExpTransform(), torch.zeros(2), torch.zeros(2))
        >>> y, score  # the density of y is 1 / y, up to a constant
        (tensor([1., 1.]), tensor([-1., -1.]))
    """
    if score.shape != x.shape:
        raise InvalidInputError(complaint("score", f"the shape of x, {tuple(x.shape)}", f"shape {tuple(score.shape)}"))
    with _full_precision(x):
        if isinstance(transform, FusedTransform):
            y, log_det, score = transform.forward_with_score(x, score)
            transform._remember(x, y, log_det)
            return y, log_det, score

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            y = cast(Tensor, transform(point))
            return y, transform.log_abs_det_jacobian(point, y)

        shape = transform.inverse_shape(transform.forward_shape(x.shape))
        dims = {"domain_dim": transform.domain.event_dim, "codomain_dim": transform.codomain.event_dim}
        return evaluate_with_score(evaluate, x.expand(shape), score.expand(shape), **dims)
