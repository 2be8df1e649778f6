"""Vector fields as a solve sees them: f(t, z) beside the trace of its Jacobian or an estimate of it.

Three objects follow each other. Conditioned dynamics live as long as a transform. For each solve they `prepare` a
field: everything that depends on neither t nor z is computed then, once. A field is bound to probes or to its exact
trace, which gives what the solver integrates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor, nn

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.ode.fields import AugmentedField, Time
from vae_flows.tensors.inference_mode import differentiating
from vae_flows.tensors.subclasses import is_plain, plain

__all__ = [
    "ConditionedDynamics",
    "FunctionField",
    "ProductsField",
    "TraceByDirections",
    "VectorField",
    "vector_jacobian_products",
]


_DIRECTIONS = 16  # per pass, where the trace has no closed form: bounds the memory, still one wide product


class VectorField(ABC):
    """dz/dt = f(t, z) for one solve, to be bound to the way in which the trace of J = ∂f/∂z is had.

    A field chooses the layout in which it is integrated: `pack` brings latents `(*sample, *batch, D)` into it, `unpack`
    brings values and densities back.
    """

    @abstractmethod
    def value(self, t: Time, z: Tensor) -> Tensor:
        """Return f(t, z), of the shape of z."""

    @abstractmethod
    def with_probes(self, probes: Tensor) -> AugmentedField:
        """Bind to the mean of εᵀJε over `probes (P, *z.shape)`."""

    @abstractmethod
    def with_trace(self) -> AugmentedField:
        """Bind to tr J without noise."""

    @abstractmethod
    def tensors(self) -> Sequence[Tensor]:
        """Return the tensors that f depends on, in the form in which it uses them."""

    @property
    def takes_each_time(self) -> bool:
        """Whether t may differ between latents, as a tensor `(…, 1)`."""
        return True

    def bottleneck_width(self) -> int:
        """Return the width H of the layer h in f = g(h(z)) at which the bottleneck estimator has its noise.

        Raises:
            InvalidInputError: The field is no composition that is known.
        """
        raise InvalidInputError(
            complaint("bottleneck estimator", "dynamics made of layers, such as MLPDynamics", type(self).__name__)
        )

    def with_bottleneck_probes(self, probes: Tensor) -> AugmentedField:
        """Bind to the mean of εᵀ (∂h/∂z ∂g/∂h) ε over `probes (P, *z.shape[:-1], H)`."""
        del probes
        raise InvalidInputError(complaint("bottleneck estimator", "dynamics made of layers", type(self).__name__))

    def pack(self, z: Tensor, shape: Size) -> Tensor:
        """Bring `z`, expanded to `(*shape, D)`, into the field's layout."""
        return z.expand(shape + z.shape[-1:])

    def unpack(self, values: Tensor, shape: Size) -> Tensor:
        """Bring `values`, one row or number per latent, from the field's layout back to `(*shape, …)`."""
        del shape
        return values


class ConditionedDynamics(ABC):
    """Dynamics after conditioning, with parameters of shape `(*batch, …)`.

    Arguments:
        latent_dim: D, or `None` where any will do.
        batch_shape: The parameters' batch shape.
    """

    def __init__(self, latent_dim: int | None, batch_shape: Size) -> None:
        self.latent_dim = latent_dim
        self.batch_shape = batch_shape

    @property
    def dtype(self) -> torch.dtype | None:
        """The floating-point type in which f is computed, or `None` where it is that of z."""
        return None

    @property
    def has_cheap_trace(self) -> bool:
        """Whether the exact trace costs about what an estimate with one probe does."""
        return False

    @abstractmethod
    def prepare(self, shape: Size) -> VectorField:
        """Return the field for one solve of latents `(*shape, D)`."""

    @abstractmethod
    def dependencies(self) -> Sequence[Tensor]:
        """Return the tensors that may be changed in place between solves, such as an optimiser's parameters."""


class FunctionField(VectorField, ConditionedDynamics):
    """Any callable f(t, z), or f(t, z, context), differentiated by automatic differentiation.

    Arguments:
        function: Maps a scalar `t` and `z (*sample, *batch, D)` to dz/dt of that shape.
        parameters: Tensors that `function` uses, needed by the gradient methods `adjoint` and `recompute` and by
            nothing else. Those of an `nn.Module`, and the context, are found by themselves.
        context: Third argument of the function, `(*batch, C)`, where it takes one.
    """

    @checked
    def __init__(
        self, function: Callable[..., Tensor], parameters: Sequence[Tensor] = (), context: Tensor | None = None
    ) -> None:
        super().__init__(None, Size() if context is None else context.shape[:-1])
        found = tuple(function.parameters()) if isinstance(function, nn.Module) else ()
        self._function = function
        arguments = () if context is None else (context,)
        self._dependencies = (*found, *parameters, *arguments)
        self._arguments = tuple(map(plain, arguments))
        self._captured: tuple[Tensor, ...] = ()
        self._tensors = (*map(plain, (*found, *parameters)), *self._arguments)

    def prepare(self, shape: Size) -> VectorField:
        del shape
        return self

    def dependencies(self) -> Sequence[Tensor]:
        return (*self._dependencies, *self._captured)

    def tensors(self) -> Sequence[Tensor]:
        return self._tensors

    def value(self, t: Time, z: Tensor) -> Tensor:
        dz = self._function(torch.as_tensor(t, dtype=z.dtype, device=z.device), z, *self._arguments)
        if not isinstance(dz, Tensor) or dz.shape != z.shape or dz.dtype != z.dtype:
            expected = f"dz/dt of the shape of z and its dtype, {tuple(z.shape)} of {z.dtype}"
            got = f"{tuple(dz.shape)} of {dz.dtype}" if isinstance(dz, Tensor) else repr(dz)
            raise InvalidInputError(complaint("vector field", expected, got))
        if not is_plain(dz):  # by a tensor of such a class in the function's closure
            self._captured = self._captured or (dz.detach(),)
            dz = plain(dz)
        return dz

    def with_probes(self, probes: Tensor) -> AugmentedField:
        return ProductsField(self, probes)

    def with_trace(self) -> AugmentedField:
        return ProductsField(self)


class ProductsField(AugmentedField):
    """f beside the mean of εᵀJε over probes, or beside its trace, by vector-Jacobian products.

    Arguments:
        field: The vector field, of which `value` alone is used.
        probes: `(P, *z.shape)`; without them, the trace is the sum of D products with the basis ("brute force").
    """

    def __init__(self, field: VectorField, probes: Tensor | None = None) -> None:
        self._field = field
        self._probes = probes

    def tensors(self) -> Sequence[Tensor]:
        return self._field.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        if self._probes is None:
            basis = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
            dz, rows = vector_jacobian_products(self._field, t, z, [vector.expand_as(z) for vector in basis])
            return dz, torch.stack([row[..., d] for d, row in enumerate(rows)]).sum(0).unsqueeze(-1)
        dz, rows = vector_jacobian_products(self._field, t, z, list(self._probes))
        forms = [(probe * row).sum(-1) for probe, row in zip(self._probes, rows, strict=True)]
        return dz, torch.stack(forms).mean(0).unsqueeze(-1)


class TraceByDirections(AugmentedField):
    """f beside its trace as the sum of e_dᵀJe_d over the basis, in chunks that bound the memory.

    Arguments:
        field: The vector field, whose `with_probes` has directional derivatives of its own.
    """

    def __init__(self, field: VectorField) -> None:
        self._field = field

    def tensors(self) -> Sequence[Tensor]:
        return self._field.tensors()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        basis = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        value, trace = z, z.new_zeros((*z.shape[:-1], 1))
        for chunk in basis.split(_DIRECTIONS):
            probes = chunk.view(len(chunk), *(1,) * (z.dim() - 1), -1).expand(-1, *z.shape)
            value, mean = self._field.with_probes(probes).evaluate(t, z)
            trace = trace + mean * len(chunk)
        return value, trace


def vector_jacobian_products(
    field: VectorField, t: Time, z: Tensor, vectors: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return f(t, z) and vᵀJ for each v of the shape of z; differentiable where gradients are enabled."""
    differentiable = torch.is_grad_enabled()
    with differentiating(z, *field.tensors()):
        # Where nothing is differentiated, z may still be part of a graph, in which a product by it is not found.
        z = z if differentiable and z.requires_grad else z.detach().requires_grad_()
        dz = field.value(t, z)
        rows = [_product(dz, z, vector, differentiable) for vector in vectors]
    return (dz if differentiable else dz.detach()), rows


def _product(dz: Tensor, z: Tensor, vector: Tensor, differentiable: bool) -> Tensor:
    if not dz.requires_grad:
        return torch.zeros_like(z)
    (row,) = torch.autograd.grad(
        dz, z, vector, create_graph=differentiable, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return row
