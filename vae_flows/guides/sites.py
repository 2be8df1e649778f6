"""Local latent sites, and the bijections between their values and unconstrained vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from pyro.distributions.transforms import CholeskyTransform
from torch import Size, Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import ComposeTransform, IndependentTransform, ReshapeTransform, Transform

from vae_flows.checks import checked, require_sample_shape
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["LocalSite", "LowerTriangularTransform", "PackedTransform", "bijection_to", "unconstrained"]


@checked
@dataclass(frozen=True)
class LocalSite:
    """A latent site that every row of the batch has for itself.

    Arguments:
        name: Name of the model's sample site.
        event_shape: Shape of one row's value.
        support: Where values lie, such as `constraints.positive`; one that constrains fewer dimensions than
            `event_shape` has holds for each element.

    Raises:
        InvalidInputError: The support is discrete, does not fit `event_shape`, or has no bijection to it.

    Example:
        >>> site = LocalSite("weights", (3,), constraints.simplex)
        >>> site.size, site.transform()(torch.zeros(5, 2)).shape
        (2, torch.Size([5, 3]))
    """

    name: str
    event_shape: Sequence[int] = ()
    support: Constraint = constraints.real

    def __post_init__(self) -> None:
        if self.support.is_discrete:
            raise InvalidInputError(
                complaint(
                    f"site {self.name!r}",
                    "a continuous site",
                    f"the discrete support {self.support}",
                    "Marginalise it: give it infer={'enumerate': 'parallel'} in the model and train with "
                    f"TraceEnum_ELBO, or leave it to another guide with poutine.block(model, hide=[{self.name!r}]).",
                )
            )
        require_sample_shape("LocalSite event_shape", self.event_shape)
        object.__setattr__(self, "event_shape", Size(self.event_shape))
        # Asked of the bijection, for not every support of Pyro tells its own number of dimensions.
        missing = len(self.event_shape) - self._bijection().codomain.event_dim
        if missing > 0:
            object.__setattr__(self, "support", constraints.independent(self.support, missing))
        self.unconstrained_shape  # noqa: B018  # fails now where the shape is wrong

    @cached_property
    def unconstrained_shape(self) -> Size:
        """Shape of one row's unconstrained value."""
        transform = self._bijection()
        try:
            if len(self.event_shape) < transform.codomain.event_dim:
                raise ValueError(f"at least {transform.codomain.event_dim} dimensions are needed")
            return Size(transform.inverse_shape(self.event_shape))
        except ValueError as error:
            wanted = f"a shape of values in {self.support}"
            subject = f"site {self.name!r} event_shape"
            raise InvalidInputError(complaint(subject, wanted, f"{tuple(self.event_shape)}: {error}")) from error

    def _bijection(self) -> Transform:
        try:
            return bijection_to(self.support)
        except NotImplementedError as error:
            raise InvalidInputError(
                complaint(
                    f"site {self.name!r} support",
                    "one with a bijection from unconstrained values",
                    f"{self.support} for values of shape {tuple(self.event_shape)}",
                    "Reparameterise it with poutine.reparam, or leave it to another guide with "
                    f"poutine.block(model, hide=[{self.name!r}]).",
                )
            ) from error

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates of one row."""
        return self.unconstrained_shape.numel()

    def transform(self) -> Transform:
        """Return the map from unconstrained vectors `(…, size)` to values `(…, *event_shape)`.

        It remembers its latest evaluation, so that a flow before it meets its own sample again when scoring.
        """
        parts = [ReshapeTransform(Size([self.size]), self.unconstrained_shape), self._bijection()]
        return ComposeTransform(parts, cache_size=1)


def bijection_to(support: Constraint) -> Transform:
    """Return a bijection from unconstrained values to `support`: that of `biject_to`, and triangular matrices.

    Raises:
        NotImplementedError: There is none.

    Example:
        >>> bijection_to(constraints.positive)(torch.zeros(3))
        tensor([1., 1., 1.])
        >>> bijection_to(constraints.lower_cholesky)(torch.zeros(3))
        tensor([[1., 0.],
                [0., 1.]])
    """
    if isinstance(support, constraints.independent):
        inner = bijection_to(support.base_constraint)
        return IndependentTransform(inner, support.reinterpreted_batch_ndims)
    # The registry is torch's: adding to it would change what other code sees.
    if isinstance(support, type(constraints.lower_cholesky)):
        return LowerTriangularTransform()
    if isinstance(support, type(constraints.positive_definite)):
        return ComposeTransform([LowerTriangularTransform(), CholeskyTransform().inv])
    return biject_to(support)


def unconstrained(transform: Transform, value: Tensor) -> Tensor:
    """Return what `transform` maps to `value`.

    Part by part, and without the inverses that torch makes: they and their transforms refer to each other, and hold
    tensors until garbage is collected.
    """
    if isinstance(transform, ComposeTransform):
        for part in reversed(transform.parts):
            value = unconstrained(part, value)
        return value
    if isinstance(transform, IndependentTransform):
        return unconstrained(transform.base_transform, value)
    inverts = type(transform)._inverse is not Transform._inverse  # which the inverse of another does not
    return cast(Tensor, transform._inv_call(value) if inverts else transform.inv(value))


class LowerTriangularTransform(Transform):
    r"""Vectors `(…, n(n+1)/2)` to lower-triangular matrices `(…, n, n)` with the diagonal :math:`e^{x_{ii}}`.

    :math:`\log|\det|`, with respect to the entries on and below the diagonal, is :math:`\sum_i x_{ii}`.

    Example:
        >>> transform = LowerTriangularTransform()
        >>> x = torch.randn(6)
        >>> torch.allclose(transform.inv(transform(x)), x, atol=1e-6)
        True
    """

    domain = constraints.real_vector
    codomain = constraints.lower_cholesky
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LowerTriangularTransform)

    __hash__ = Transform.__hash__

    def with_cache(self, cache_size: int = 1) -> LowerTriangularTransform:
        return self if cache_size == self._cache_size else LowerTriangularTransform(cache_size)

    def _call(self, x: Tensor) -> Tensor:
        order = self.forward_shape(x.shape)[-1]
        rows, columns = torch.tril_indices(order, order, device=x.device)
        matrix = x.new_zeros((*x.shape[:-1], order, order))
        matrix[..., rows, columns] = torch.where(rows == columns, x.exp(), x)
        return matrix

    def _inverse(self, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(*y.shape[-2:], device=y.device)
        entries = y[..., rows, columns]
        diagonal = rows == columns
        return torch.where(diagonal, torch.where(diagonal, entries, 1.0).log(), entries)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(*y.shape[-2:], device=y.device)
        return x[..., rows == columns].sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        order = (math.isqrt(8 * shape[-1] + 1) - 1) // 2
        if order * (order + 1) // 2 != shape[-1]:
            raise ValueError(f"{shape[-1]} is not n(n+1)/2")
        return Size((*shape[:-1], order, order))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"{tuple(shape)} is no shape of square matrices")
        return Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


class PackedTransform(Transform):
    r"""Unconstrained vectors of several sites, side by side, to their values, flattened and side by side.

    :math:`\log|\det|` is the sum over the sites. The latest evaluation is remembered.

    Arguments:
        sites: The sites, in order.

    Example:
        >>> sites = [LocalSite("rate", (), constraints.positive), LocalSite("weights", (3,), constraints.simplex)]
        >>> transform = PackedTransform(sites)
        >>> packed = transform(torch.zeros(5, 3))
        >>> [value.shape for value in transform.split(packed)]
        [torch.Size([5]), torch.Size([5, 3])]
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, sites: Sequence[LocalSite]) -> None:
        super().__init__(cache_size=1)
        self._sites = tuple(sites)
        self._transforms = [site.transform() for site in sites]
        self._sizes = [site.size for site in sites]
        self._lengths = [Size(site.event_shape).numel() for site in sites]

    def split(self, packed: Tensor) -> list[Tensor]:
        """Return the sites' values `(…, *event_shape)` of a packed value."""
        parts = packed.split(self._lengths, -1)
        return [
            part.reshape(part.shape[:-1] + Size(site.event_shape))
            for part, site in zip(parts, self._sites, strict=True)
        ]

    def _call(self, x: Tensor) -> Tensor:
        parts = zip(self._transforms, self._lengths, x.split(self._sizes, -1), strict=True)
        flat = [cast(Tensor, transform(part)).reshape((*x.shape[:-1], length)) for transform, length, part in parts]
        return torch.cat(flat, -1)

    def _inverse(self, y: Tensor) -> Tensor:
        parts = zip(self._transforms, self.split(y), strict=True)
        return torch.cat([unconstrained(transform, value) for transform, value in parts], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self._transforms, x.split(self._sizes, -1), self.split(y), strict=True)
        return torch.stack([transform.log_abs_det_jacobian(part, value) for transform, part, value in parts]).sum(0)

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return Size((*shape[:-1], sum(self._lengths)))

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return Size((*shape[:-1], sum(self._sizes)))
