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

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["AugmentedField", "ConditionedDynamics", "FunctionField", "TapedField", "Time", "VectorField"]

Time = float | Tensor


class AugmentedField(ABC):
    """f(t, z) and the trace of its Jacobian, or an estimate, as one function of t and z."""

    @abstractmethod
    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, of the shape of z, and the trace, of shape `z.shape[:-1]`."""

    @abstractmethod
    def tensors(self) -> Sequence[Tensor]:
        """Return the tensors that f and the trace depend on, in the form in which they are used."""

    def isolated(self) -> AugmentedField:
        """Return a field none of whose tensors depends on another, for the continuous adjoint.

        Where one tensor was computed from another, the adjoint would count the other's gradient twice.
        """
        return self


class TapedField(AugmentedField):
    """An augmented field that differentiates itself: evaluations leave a tape, from which `pull_back` works."""

    @abstractmethod
    def record(self, t: float, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        """Evaluate, and return the tape of the evaluation as well."""

    @abstractmethod
    def pull_back(self, tape: object, value: Tensor, trace: Tensor) -> Tensor:
        """Return the cotangent of z for those of f and the trace; note what the gradient of the tensors needs."""

    @abstractmethod
    def collect(self) -> list[Tensor]:
        """Return the gradients of `tensors()` for all that was pulled back since the last call."""


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
    def prepare(self, shape: Size) -> VectorField:
        """Return the field for one solve of latents `(*shape, D)`."""

    @abstractmethod
    def dependencies(self) -> Sequence[Tensor]:
        """Return the tensors that may be changed in place between solves, such as an optimiser's parameters."""


class FunctionField(VectorField, ConditionedDynamics):
    """Any callable f(t, z), differentiated by automatic differentiation.

    Arguments:
        function: Maps a scalar `t` and `z (*sample, *batch, D)` to dz/dt of that shape.
        parameters: Tensors that `function` uses, needed by the gradient methods `adjoint` and `recompute` and by
            nothing else. Those of an `nn.Module` are found by themselves.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], parameters: Sequence[Tensor] = ()) -> None:
        if not callable(function):
            raise InvalidInputError(complaint("vector field", "a callable (t, z) -> dz/dt", repr(function)))
        super().__init__(None, Size())
        found = tuple(function.parameters()) if isinstance(function, nn.Module) else ()
        self._function = function
        self._tensors = (*found, *parameters)

    def prepare(self, shape: Size) -> VectorField:
        del shape
        return self

    def dependencies(self) -> Sequence[Tensor]:
        return self._tensors

    def value(self, t: Time, z: Tensor) -> Tensor:
        dz = self._function(torch.as_tensor(t, dtype=z.dtype, device=z.device), z)
        if dz.shape != z.shape:
            raise InvalidInputError(
                complaint("vector field", f"dz/dt of the shape of z, {tuple(z.shape)}", f"shape {tuple(dz.shape)}")
            )
        return dz

    def with_probes(self, probes: Tensor) -> AugmentedField:
        return _FunctionWithProducts(self, probes)

    def with_trace(self) -> AugmentedField:
        return _FunctionWithProducts(self, None)


class _FunctionWithProducts(AugmentedField):
    """f beside the mean of εᵀJε over probes, or beside its trace, by vector-Jacobian products."""

    def __init__(self, field: FunctionField, probes: Tensor | None) -> None:
        self._field = field
        self._probes = probes

    def tensors(self) -> Sequence[Tensor]:
        return self._field.dependencies()

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        if self._probes is None:
            basis = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
            dz, rows = self._products(t, z, [vector.expand_as(z) for vector in basis])
            return dz, torch.stack([row[..., d] for d, row in enumerate(rows)]).sum(0)
        dz, rows = self._products(t, z, list(self._probes))
        return dz, torch.stack([(probe * row).sum(-1) for probe, row in zip(self._probes, rows, strict=True)]).mean(0)

    def _products(self, t: Time, z: Tensor, vectors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return f and vᵀJ for each v; differentiable where gradients are enabled."""
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            dz = self._field.value(t, z)
            rows = [_product(dz, z, vector, differentiable) for vector in vectors]
        return (dz if differentiable else dz.detach()), rows


def _product(dz: Tensor, z: Tensor, vector: Tensor, differentiable: bool) -> Tensor:
    if not dz.requires_grad:
        return torch.zeros_like(z)
    (row,) = torch.autograd.grad(
        dz, z, vector, create_graph=differentiable, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return row
