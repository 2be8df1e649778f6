"""The map z(0) -> z(T) of an ODE as a transform with log-determinant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Size, Tensor

from vae_flows.cnf.divergence import Divergence, Noise, divergence_from
from vae_flows.cnf.fields import AugmentedField, ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.integrate import ODESolver, solver_or_default
from vae_flows.cnf.options import is_number
from vae_flows.cnf.regularization import RegularizedField, Regularizer, check_regularizers
from vae_flows.cnf.score import ScoredField
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tracing import functorch_is_active, known
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.records import Evaluation
from vae_flows.work import WorkCount, WorkMeter

__all__ = ["ContinuousTransform", "check_integration_time"]


class ContinuousTransform(FusedTransform):
    r"""The flow of :math:`dz/dt = f(t, z)` from 0 to T, with :math:`\log|\det| = \int_0^T \operatorname{tr} J\,dt`.

    One solve gives value and log-determinant (Chen et al. 2018, theorem 1; Grathwohl et al. 2019, equation 4). Where
    the trace is estimated, the noise is drawn once for each shape of latents, so that `log_prob` of one object is
    repeatable and inverse and forward map are estimated alike.

    `torch.func.grad` and `jacrev` work for gradients by `backprop` of dynamics made of layers; other gradients and
    `brute_force` are differentiations of their own, which `torch.func` refuses inside of its own.

    Arguments:
        vector_field: A callable (t, z) -> dz/dt with z `(*sample, *batch, D)`, one of (t, z, context), or dynamics
            conditioned on amortised parameters.
        integration_time: T; as a scalar tensor it may be trained.
        divergence: `exact`, `hutchinson`, `bottleneck`, `brute_force` or a `Divergence`.
        noise: `gaussian` or `rademacher`, for Hutchinson's estimate.
        num_probes: Draws of noise averaged in an estimate.
        solver: The solver's settings.
        regularizers: Rates to integrate beside the trace; their weighted integrals are the `regularization` of an
            evaluation.
        context: Third argument of a callable that takes one, `(*batch, C)`.
        parameters: Tensors used inside a callable, needed by the gradients `adjoint` and `recompute` alone.
        probes: Noise of Hutchinson's estimate to use instead of drawing it, `(num_probes, *z.shape)`.
        on_solve: Called with the meter of each solve as it starts, which counts as the solve proceeds.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: An argument is of another type or out of range, latents have a wrong shape, or
            `torch.func.vmap` hides a dimension of theirs: a solver looks at values to choose and check its steps, which
            vmap refuses.
        IntegrationError: Raised by a solve; says where and what to try.

    Example:
        >>> transform = ContinuousTransform(lambda t, z: -z, integration_time=1.0, divergence="exact")
        >>> z = torch.ones(3, 2)
        >>> y = transform(z)
        >>> torch.allclose(y, torch.exp(-z), atol=1e-4)
        True
        >>> torch.allclose(transform.log_abs_det_jacobian(z, y), torch.tensor(-2.0))
        True
    """

    def __init__(
        self,
        vector_field: ConditionedDynamics | Callable[..., Tensor],
        *,
        integration_time: float | Tensor = 1.0,
        divergence: str | Divergence = "hutchinson",
        noise: Noise = "gaussian",
        num_probes: int = 1,
        solver: ODESolver | None = None,
        regularizers: Sequence[Regularizer] = (),
        context: Tensor | None = None,
        parameters: Sequence[Tensor] = (),
        probes: Tensor | None = None,
        on_solve: Callable[[WorkMeter], None] | None = None,
        cache_size: int = 1,
    ) -> None:
        check_integration_time(integration_time)
        if isinstance(vector_field, ConditionedDynamics):
            self._dynamics = vector_field
        else:
            self._dynamics = FunctionField(vector_field, parameters, context)
        super().__init__(self._dynamics.latent_dim, self._dynamics.batch_shape, cache_size=cache_size)
        self.integration_time = integration_time
        self.divergence = divergence_from(divergence, noise, num_probes)
        self.solver = solver_or_default("ContinuousTransform solver", solver)
        self.regularizers = check_regularizers("ContinuousTransform regularizers", regularizers)
        self._meter: WorkMeter | None = None
        self._on_solve = on_solve
        self._given_probes = probes
        self._drawn_probes: dict[tuple[int, ...], _Noise] = {}

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest solve, `None` before the first; the record of an evaluation has that evaluation's."""
        return None if self._meter is None else self._meter.read()

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evaluation = self.forward_evaluation(x)
        return evaluation.y, evaluation.log_det

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        evaluation = self.inverse_evaluation(y)
        return evaluation.x, evaluation.log_det

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        evaluation = self.scored_evaluation(x, score)
        return evaluation.y, evaluation.log_det, cast(Tensor, evaluation.score)

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        return self._integrate(x, forward=True)

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        return self._integrate(y, forward=False).inverted()

    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation:
        return self._integrate(x, forward=True, score=score.detach())

    @property
    def is_regularized(self) -> bool:
        return bool(self.regularizers)

    def dependencies(self) -> Sequence[Tensor]:
        return self._dynamics.dependencies()

    def _integrate(self, z: Tensor, *, forward: bool, score: Tensor | None = None) -> Evaluation:
        """Solve between 0 and T; the record is that of the map in this direction."""
        try:
            return self._solve(z, forward=forward, score=score)
        except RuntimeError as error:
            hidden = functorch_is_active() and any(known(x.isfinite()) is None for x in (z, *self.sources()))
            if not hidden:
                raise
            raise InvalidInputError(
                complaint(
                    type(self).__name__,
                    "latents and context with all their dimensions, as a solver chooses its steps by their values",
                    "a dimension hidden by torch.func.vmap",
                    "Both take any batch shape as they are; for gradients of each example, loop over the examples.",
                )
            ) from error

    def _solve(self, z: Tensor, *, forward: bool, score: Tensor | None) -> Evaluation:
        shape = self.broadcast_shape(z)
        field = self._dynamics.prepare(shape)
        if self.regularizers:
            field = field.self_contained()
        packed = field.pack(z, shape)
        if packed.numel() == 0:
            empty = z.expand(shape + z.shape[-1:])
            nothing = z.new_zeros(shape)
            return Evaluation(z, empty, nothing, empty, nothing if self.regularizers else None)
        augmented = self._augmented(field, packed, shape)
        self._meter = meter = WorkMeter()
        if self._on_solve is not None:
            self._on_solve(meter)
        end_time = _number(self.integration_time)
        moved = _shift_of_time(self.integration_time, end_time, augmented)
        if score is not None:
            states = torch.cat([packed, field.pack(score, shape)], -1)
            states, integrals = self.solver.solve(ScoredField(augmented), states, (0.0, end_time), meter)
            values, carried = states.chunk(2, -1)
            score = field.unpack(carried.detach(), shape)
            values, integrals = moved(values, integrals, 1.0)
        elif forward:
            values, integrals = self.solver.solve(augmented, packed, (0.0, end_time), meter)
            values, integrals = moved(values, integrals, 1.0)
        else:
            packed, before = moved(packed, packed.new_zeros((*packed.shape[:-1], augmented.num_integrals)), -1.0)
            values, integrals = self.solver.solve(augmented, packed, (end_time, 0.0), meter)
            integrals = integrals + before
        regularization = None
        if self.regularizers:
            weights = integrals.new_tensor([regularizer.weight for regularizer in self.regularizers])
            regularization = field.unpack((integrals[..., 1:] * weights).sum(-1), shape) * (1 if forward else -1)
        y, log_det = field.unpack(values, shape), field.unpack(integrals[..., 0], shape)
        return Evaluation(z, y, log_det, score, regularization, (meter,))

    def _augmented(self, field: VectorField, packed: Tensor, shape: Size) -> AugmentedField:
        """Bind the field to its divergence and regularisers, with the noise of latents of this shape."""
        key = tuple(map(int, packed.shape))  # torch.jit.trace makes sizes tensors, of which no two are the same key
        if key not in self._drawn_probes:
            of_trace = self.divergence.draw_probes(field, packed) if self._given_probes is None else None
            of_regularizers = [regularizer.draw_probes(field, packed) for regularizer in self.regularizers]
            self._drawn_probes[key] = _Noise(of_trace, of_regularizers)
        noise = self._drawn_probes[key]
        if self._given_probes is not None:
            noise = noise._replace(of_trace=torch.stack([field.pack(probe, shape) for probe in self._given_probes]))
        augmented = self.divergence.bind(field, noise.of_trace)
        if self.regularizers:
            return RegularizedField(augmented, field, self.regularizers, noise.of_regularizers)
        return augmented


class _Noise(NamedTuple):
    """The noise for latents of one shape."""

    of_trace: Tensor | None
    of_regularizers: list[Tensor | None]


def _shift_of_time(
    time: float | Tensor, at: float, field: AugmentedField
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """Return the map that carries the state at T by T − T₀ along the field, T₀ being the value of T: zero, but for dT.

    The derivative of a solve in its end time is the field there, so one evaluation serves, whatever made the solve.
    """

    def unmoved(values: Tensor, integrals: Tensor, direction: float) -> tuple[Tensor, Tensor]:
        del direction
        return values, integrals

    def moved(values: Tensor, integrals: Tensor, direction: float) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            rates = field.evaluate(at, values)
        step = direction * (trainable - at).to(values.dtype)
        return values + step * rates[0], integrals + step * rates[1]

    if isinstance(time, Tensor) and time.requires_grad and torch.is_grad_enabled():
        trainable = time
        return moved
    return unmoved


def _number(time: float | Tensor) -> float:
    return float(time.detach()) if isinstance(time, Tensor) else float(time)


def check_integration_time(integration_time: float | Tensor) -> None:
    """Check that T is a positive number.

    Raises:
        InvalidInputError: It is not.
    """
    scalar = isinstance(integration_time, Tensor) and integration_time.dim() == 0
    time = _number(integration_time) if scalar else integration_time
    if not (is_number(time) and time > 0):
        raise InvalidInputError(
            complaint("integration_time", "a positive number, or a scalar tensor of one", repr(integration_time))
        )
