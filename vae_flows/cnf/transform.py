"""The map z(0) -> z(T) of an ODE as a transform with log-determinant."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Size, Tensor

from vae_flows.cnf.divergence import Divergence, Noise, divergence_from
from vae_flows.cnf.fields import ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.integrate import ODESolver
from vae_flows.cnf.work import WorkCount
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.transforms.base import FusedTransform

__all__ = ["ContinuousTransform", "check_integration_time"]


class ContinuousTransform(FusedTransform):
    r"""The flow of :math:`dz/dt = f(t, z)` from 0 to T, with :math:`\log|\det| = \int_0^T \operatorname{tr} J\,dt`.

    One solve gives value and log-determinant (Chen et al. 2018, theorem 1; Grathwohl et al. 2019, equation 4). Where
    the trace is estimated, the noise is drawn once for each shape of latents, so that `log_prob` of one object is
    repeatable and inverse and forward map are estimated alike.

    Arguments:
        vector_field: A callable (t, z) -> dz/dt with z `(*sample, *batch, D)`, or dynamics conditioned on amortised
            parameters.
        integration_time: T.
        divergence: `exact`, `hutchinson` or a `Divergence`.
        noise: `gaussian` or `rademacher`, for Hutchinson's estimate.
        num_probes: Draws of noise averaged in an estimate.
        solver: The solver's settings.
        parameters: Tensors used inside a callable, needed by the continuous adjoint alone.
        probes: Noise to use instead of drawing it, `(num_probes, *z.shape)`.
        on_solve: Called with the work count of each solve as it starts; the counts fill up as it proceeds.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: `integration_time` is not positive, or latents have a wrong shape.
        IntegrationError: Raised by a solve; says where and what to try.

    Example:
        >>> transform = ContinuousTransform(lambda t, z: -z, integration_time=1.0, divergence="exact")
        >>> z = torch.ones(3, 2)
        >>> y = transform(z)
        >>> torch.allclose(y, torch.exp(-z), atol=1e-4)
        True
        >>> transform.log_abs_det_jacobian(z, y).detach()
        tensor([-2.0000, -2.0000, -2.0000])
    """

    def __init__(
        self,
        vector_field: ConditionedDynamics | Callable[[Tensor, Tensor], Tensor],
        *,
        integration_time: float = 1.0,
        divergence: str | Divergence = "hutchinson",
        noise: Noise = "gaussian",
        num_probes: int = 1,
        solver: ODESolver | None = None,
        parameters: Sequence[Tensor] = (),
        probes: Tensor | None = None,
        on_solve: Callable[[WorkCount], None] | None = None,
        cache_size: int = 1,
    ) -> None:
        check_integration_time(integration_time)
        if isinstance(vector_field, ConditionedDynamics):
            self._dynamics = vector_field
        else:
            self._dynamics = FunctionField(vector_field, parameters)
        super().__init__(self._dynamics.latent_dim, self._dynamics.batch_shape, cache_size=cache_size)
        self.integration_time = float(integration_time)
        self.divergence = divergence_from(divergence, noise, num_probes)
        self.solver = solver or ODESolver()
        self.last_solve: WorkCount | None = None
        self._on_solve = on_solve
        self._given_probes = probes
        self._drawn_probes: dict[Size, Tensor | None] = {}

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrate(x, 0.0, self.integration_time)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self._integrate(y, self.integration_time, 0.0)
        return x, -log_det

    def dependencies(self) -> Sequence[Tensor]:
        return self._dynamics.dependencies()

    def _integrate(self, z: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
        """Solve from `start` to `end`; the second value is the integral of the trace in that direction."""
        shape = self.broadcast_shape(z)
        field = self._dynamics.prepare(shape)
        packed = field.pack(z, shape)
        if packed.numel() == 0:
            return z.expand(shape + z.shape[-1:]), z.new_zeros(shape)
        augmented = self.divergence.bind(field, self._probes(field, packed, shape))
        self.last_solve = WorkCount()
        if self._on_solve is not None:
            self._on_solve(self.last_solve)
        values, log_det = self.solver.solve(augmented, packed, (start, end), self.last_solve)
        return field.unpack(values, shape), field.unpack(log_det, shape)

    def _probes(self, field: VectorField, packed: Tensor, shape: Size) -> Tensor | None:
        if self._given_probes is not None:
            return torch.stack([field.pack(probe, shape) for probe in self._given_probes])
        if packed.shape not in self._drawn_probes:
            self._drawn_probes[packed.shape] = self.divergence.draw_probes(packed)
        return self._drawn_probes[packed.shape]


def check_integration_time(integration_time: float) -> None:
    """Check that T is a positive number.

    Raises:
        InvalidInputError: It is not.
    """
    if not 0 < integration_time < math.inf:
        raise InvalidInputError(complaint("integration_time", "a positive number", integration_time))
