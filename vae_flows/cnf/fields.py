"""Vector fields as a solve sees them: value, quadratic forms of the Jacobian, and its trace.

Dynamics that have been conditioned live as long as a transform. For each solve they `prepare` a field: everything that
depends on neither t nor z is computed then, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor, nn

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["ConditionedDynamics", "FunctionField", "VectorField"]


class VectorField(ABC):
    """dz/dt = f(t, z) for one solve, with what the change of log-density needs of the Jacobian J = ∂f/∂z.

    A field chooses the layout in which it is integrated: `pack` brings latents `(*sample, *batch, D)` into it, `unpack`
    brings values and densities back.
    """

    @abstractmethod
    def value(self, t: Tensor, z: Tensor) -> Tensor:
        """Return f(t, z), of the shape of z."""

    @abstractmethod
    def value_and_quadratic_form(self, t: Tensor, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, z) and εᵀJε for `probes (P, *z.shape)`, the latter of shape `(P, *z.shape[:-1])`."""

    @abstractmethod
    def value_and_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, z) and tr J without noise, the latter of shape `z.shape[:-1]`."""

    @abstractmethod
    def tensors(self) -> Sequence[Tensor]:
        """Return the tensors that f depends on, in the form in which f uses them, for the continuous adjoint."""

    def pack(self, z: Tensor, shape: Size) -> Tensor:
        """Bring `z`, expanded to `(*shape, D)`, into the field's layout."""
        return z.expand(shape + z.shape[-1:])

    def unpack(self, values: Tensor, shape: Size) -> Tensor:
        """Bring `values`, one row or one number a latent, from the field's layout back to `(*shape, …)`."""
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

    @abstractmethod
    def prepare(self, shape: Size, *, with_trace: bool) -> VectorField:
        """Return the field for one solve of latents `(*shape, D)`; `with_trace` where `value_and_trace` is wanted."""

    @abstractmethod
    def dependencies(self) -> Sequence[Tensor]:
        """Return the tensors that may be changed in place between solves, such as an optimiser's parameters."""


class FunctionField(VectorField, ConditionedDynamics):
    """Any callable f(t, z), differentiated by automatic differentiation.

    Arguments:
        function: Maps a scalar `t` and `z (*sample, *batch, D)` to dz/dt of that shape.
        parameters: Tensors that `function` uses, needed by the continuous adjoint and by nothing else. Those of an
            `nn.Module` are found by themselves.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], parameters: Sequence[Tensor] = ()) -> None:
        if not callable(function):
            raise InvalidInputError(complaint("vector field", "a callable (t, z) -> dz/dt", repr(function)))
        super().__init__(None, Size())
        found = tuple(function.parameters()) if isinstance(function, nn.Module) else ()
        self._function = function
        self._tensors = (*found, *parameters)

    def prepare(self, shape: Size, *, with_trace: bool) -> VectorField:
        del shape, with_trace
        return self

    def dependencies(self) -> Sequence[Tensor]:
        return self._tensors

    def tensors(self) -> Sequence[Tensor]:
        return self._tensors

    def value(self, t: Tensor, z: Tensor) -> Tensor:
        dz = self._function(t, z)
        if dz.shape != z.shape:
            raise InvalidInputError(
                complaint("vector field", f"dz/dt of the shape of z, {tuple(z.shape)}", f"shape {tuple(dz.shape)}")
            )
        return dz

    def value_and_quadratic_form(self, t: Tensor, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        dz, rows = self._products(t, z, probes)
        return dz, torch.stack([(probe * row).sum(-1) for probe, row in zip(probes, rows, strict=True)])

    def value_and_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        basis = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        probes = [vector.expand_as(z) for vector in basis]
        dz, rows = self._products(t, z, probes)
        return dz, sum((row[..., d] for d, row in enumerate(rows)), start=torch.zeros_like(dz[..., 0]))

    def _products(self, t: Tensor, z: Tensor, vectors: Sequence[Tensor] | Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return f and vᵀJ for each v; differentiable where gradients are enabled."""
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            dz = self.value(t, z)
            rows = [self._product(dz, z, vector, differentiable) for vector in vectors]
        return (dz if differentiable else dz.detach()), rows

    @staticmethod
    def _product(dz: Tensor, z: Tensor, vector: Tensor, differentiable: bool) -> Tensor:
        if not dz.requires_grad:
            return torch.zeros_like(z)
        (row,) = torch.autograd.grad(
            dz, z, vector, create_graph=differentiable, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return row
