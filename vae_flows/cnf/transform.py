"""The map z(0) -> z(T) of an ODE as a transform with log-determinant."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Size, Tensor

from vae_flows.checks import checked, described
from vae_flows.cnf.divergence import Divergence, ExactDivergence, Noise, divergence_from
from vae_flows.cnf.fields import ConditionedDynamics, FunctionField, VectorField
from vae_flows.cnf.regularization import RegularizedField, Regularizer, check_regularizers
from vae_flows.cnf.score import ScoredField
from vae_flows.errors import InvalidInputError, complaint, refuse_unused
from vae_flows.ode.end_time import RescaledField, moved_end
from vae_flows.ode.fields import AugmentedField
from vae_flows.ode.options import is_number
from vae_flows.ode.solver import ODESolver, require_solver
from vae_flows.ode.work_counts import WorkCount, WorkMeter
from vae_flows.tensors.inference_mode import outside_inference_mode
from vae_flows.tensors.known_values import functorch_is_active, known
from vae_flows.tensors.precision import in_own_type
from vae_flows.tensors.shapes import broadcast_shapes, is_dense
from vae_flows.tensors.subclasses import plain, tracked
from vae_flows.transforms.base import EvaluatedTransform, FusedTransform
from vae_flows.transforms.records import Evaluation

__all__ = ["ContinuousTransform", "check_integration_time"]


class ContinuousTransform(EvaluatedTransform):
    r"""The flow of :math:`dz/dt = f(t, z)` from 0 to T, with :math:`\log|\det| = \int_0^T \operatorname{tr} J\,dt`.

    One solve gives value and log-determinant (Chen et al. 2018, theorem 1; Grathwohl et al. 2019, equation 4). Where
    the trace is estimated, the noise is drawn once for each shape of latents, so that `log_prob` of one object is
    repeatable and inverse and forward map are estimated alike.

    `torch.func.grad` and `jacrev` work for gradients by `backprop` of dynamics made of layers; other gradients and
    `brute_force` are differentiations of their own, which `torch.func` refuses inside of its own.

    Arguments:
        vector_field: A callable (t, z) -> dz/dt with z `(*sample, *batch, D)`, one of (t, z, context), or dynamics
            conditioned on amortised parameters.
        integration_time: T; as a tensor it may be trained, and differ between examples, `(*batch,)`. Of a T for each
            example, a callable gets t as a tensor that broadcasts with z, `(*sample, *batch, 1)`.
        divergence: `exact`, `hutchinson`, `bottleneck`, `brute_force` or a `Divergence`.
        noise: `gaussian`, the default, or `rademacher`, of an estimate that is given by name and draws its noise.
        num_probes: Draws of noise averaged in an estimate that is given by name, 1 by default.
        solver: The solver's settings.
        regularizers: Rates to integrate beside the trace; their weighted integrals are the `regularization` of an
            evaluation.
        context: Third argument of a callable that takes one, `(*batch, C)`.
        parameters: Tensors used inside a callable, needed by the gradients `adjoint` and `recompute` alone.
        probes: Noise of the estimate to use instead of drawing it, `(num_probes, *z.shape)`; for the bottleneck
            estimator, its width in place of D.
        on_solve: Called with the meter of each solve as it starts, which counts as the solve proceeds.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: An argument is of another type, out of range or without effect beside the others, latents
            have a wrong shape, or `torch.func.vmap` hides a dimension of theirs: a solver looks at values to choose and
            check its steps, which vmap refuses.
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

    @checked
    def __init__(
        self,
        vector_field: ConditionedDynamics | Callable[..., Tensor],
        *,
        integration_time: float | Tensor = 1.0,
        divergence: str | Divergence = "hutchinson",
        noise: Noise | None = None,
        num_probes: int | None = None,
        solver: ODESolver | None = None,
        regularizers: Sequence[Regularizer] = (),
        context: Tensor | None = None,
        parameters: Sequence[Tensor] = (),
        probes: Tensor | None = None,
        on_solve: Callable[[WorkMeter], None] | None = None,
        cache_size: int = 1,
    ) -> None:
        check_integration_time(integration_time)
        if probes is not None and not is_dense(probes):
            raise InvalidInputError(complaint("probes", "a floating-point tensor", described(probes)))
        if probes is not None:
            refuse_unused("ContinuousTransform", "probes, which are the noise", noise=noise)
        if isinstance(vector_field, ConditionedDynamics):
            beside = f"{type(vector_field).__name__}, which has its own"
            refuse_unused("ContinuousTransform", beside, context=context, parameters=parameters or None)
            self._dynamics = vector_field
        else:
            self._dynamics = FunctionField(vector_field, parameters, context)
        batch_shape = self._dynamics.batch_shape
        if isinstance(integration_time, Tensor):
            batch_shape = _common_batch(batch_shape, integration_time.shape)
        super().__init__(self._dynamics.latent_dim, batch_shape, cache_size=cache_size)
        self.integration_time = integration_time
        self.divergence = divergence_from(divergence, noise, num_probes)
        self.solver = ODESolver() if solver is None else require_solver("ContinuousTransform solver", solver)
        self.regularizers = check_regularizers("ContinuousTransform regularizers", regularizers)
        self._meter: WorkMeter | None = None
        self._on_solve = on_solve
        self._given_probes = probes
        self._drawn_probes: dict[tuple[int, ...], _Noise] = {}

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest solve, `None` before the first; the record of an evaluation has that evaluation's."""
        return None if self._meter is None else self._meter.read()

    @checked
    def until(self, fraction: float) -> ContinuousTransform:
        """Return the map from z(0) to where the path is after a part of the time, z(`fraction` · T).

        Arguments:
            fraction: Above 0 and at most 1.

        Raises:
            InvalidInputError: It is not.

        Example:
            >>> transform = ContinuousTransform(lambda t, z: -z, integration_time=1.0, divergence="exact")
            >>> halfway = transform.until(0.5)(torch.ones(2))
            >>> torch.allclose(halfway, torch.full((2,), -0.5).exp(), atol=1e-4)
            True
        """
        if not 0 < fraction <= 1:
            raise InvalidInputError(complaint("ContinuousTransform.until fraction", "above 0, at most 1", fraction))
        part = copy.copy(self)  # which remembers no evaluation
        part.integration_time = self.integration_time * fraction
        return part

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        return self._integrate(x, forward=True)

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        return self._integrate(y, forward=False).inverted()

    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation:
        return self._integrate(x, forward=True, score=score.detach())

    @property
    def is_regularized(self) -> bool:
        return bool(self.regularizers)

    @property
    def is_estimated(self) -> bool:
        return self.divergence.is_estimate

    def exact(self) -> FusedTransform:
        if not self.is_estimated or self._given_probes is not None or not self._dynamics.has_cheap_trace:
            return self
        other = self._copied()
        other.divergence = ExactDivergence()
        other._drawn_probes = {}
        return other

    def adopt(self, other: FusedTransform) -> None:
        fresh = cast(ContinuousTransform, other)
        self._dynamics = fresh._dynamics  # the noise stays, and so does a T that was drawn
        if isinstance(fresh.integration_time, Tensor) and isinstance(self.integration_time, Tensor):
            drawn = (self.integration_time - fresh.integration_time).detach()
            self.integration_time = fresh.integration_time + drawn

    def dependencies(self) -> Sequence[Tensor]:
        return self._dynamics.dependencies()

    def _integrate(self, z: Tensor, *, forward: bool, score: Tensor | None = None) -> Evaluation:
        """Solve between 0 and T; the record is that of the map in this direction."""
        given = [z] if score is None else [z, score]
        own = self._dynamics.dtype or z.dtype
        start, *carried = (in_own_type(f"{type(self).__name__} latents", plain(tensor), own) for tensor in given)
        try:
            solved = self._solve(start, forward=forward, score=carried[0] if carried else None)
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
        origins = [*given, *self.sources()]
        found = (solved.score, solved.regularization)
        of_score, regularization = (None if tensor is None else tracked(tensor, origins) for tensor in found)
        y, log_det = tracked(solved.y, origins), tracked(solved.log_det, origins)
        return Evaluation(z, y, log_det, of_score, regularization, solved.meters)

    def _solve(self, z: Tensor, *, forward: bool, score: Tensor | None) -> Evaluation:
        shape = self.broadcast_shape(z)
        field = self._dynamics.prepare(shape)
        packed = field.pack(z, shape)
        if packed.numel() == 0 or packed.is_meta:  # nothing to solve, or no numbers to solve for
            empty = z.expand(shape + z.shape[-1:])
            nothing = z.new_zeros(shape)
            return Evaluation(z, empty, nothing, empty, nothing if self.regularizers else None)
        augmented = self._augmented(field, packed, shape)
        self._meter = meter = WorkMeter()
        if self._on_solve is not None:
            self._on_solve(meter)
        regularization = None
        values, integrals, score = self._between(augmented, field, packed, shape, forward, score, meter)
        if self.regularizers:
            weights = integrals.new_tensor([regularizer.weight for regularizer in self.regularizers])
            regularization = field.unpack((integrals[..., 1:] * weights).sum(-1), shape) * (1 if forward else -1)
        y, log_det = field.unpack(values, shape), field.unpack(integrals[..., 0], shape)
        return Evaluation(z, y, log_det, score, regularization, (meter,))

    def _between(
        self,
        augmented: AugmentedField,
        field: VectorField,
        start: Tensor,
        shape: Size,
        forward: bool,
        score: Tensor | None,
        meter: WorkMeter,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Solve in the field's layout, with the gradient of a T that is learned."""
        time = self.integration_time
        time = plain(time) if isinstance(time, Tensor) else time
        learned = isinstance(time, Tensor) and time.requires_grad and torch.is_grad_enabled()
        solver, by_hand = self.solver, self.solver.differentiates_by_hand(augmented)
        if isinstance(time, Tensor) and (time.dim() or (learned and not by_hand)):
            if solver.has_options_of_time:
                solver = solver.in_units_of(float(time.detach().max()))
            augmented = RescaledField(augmented, self._packed_time(time, field, shape, start.dtype))
            interval, learned = (0.0, 1.0), False
        else:
            interval = (0.0, float(time.detach()) if isinstance(time, Tensor) else float(time))
        if score is not None:
            states = torch.cat([start, field.pack(score, shape)], -1)
            states, integrals = solver.solve(ScoredField(augmented), states, interval, meter)
            values, carried = states.chunk(2, -1)
            score = field.unpack(carried.detach(), shape)
        elif forward:
            values, integrals = solver.solve(augmented, start, interval, meter)
        else:
            before = start.new_zeros((*start.shape[:-1], augmented.num_integrals))
            if learned:
                start, before = moved_end(augmented, cast(Tensor, time), start, before, -1.0, meter)
            values, integrals = solver.solve(augmented, start, (interval[1], 0.0), meter)
            return values, integrals + before, None
        if learned:
            values, integrals = moved_end(augmented, cast(Tensor, time), values, integrals, 1.0, meter)
        return values, integrals, score

    def _packed_time(self, time: Tensor, field: VectorField, shape: Size, dtype: torch.dtype) -> Tensor:
        """Return T in the field's layout, `(…, 1)`, or as it is where all latents share it."""
        if time.dim() == 0:
            return time.to(dtype)
        if not field.takes_each_time:
            raise InvalidInputError(
                complaint(
                    "integration_time",
                    "one number, as these dynamics have weights that depend on time",
                    f"shape {tuple(time.shape)}",
                    "Use time_conditioning='concat' or 'ignore'.",
                )
            )
        return field.pack(time.to(dtype).unsqueeze(-1), shape)

    def _augmented(self, field: VectorField, packed: Tensor, shape: Size) -> AugmentedField:
        """Bind the field to its divergence and regularisers, with the noise of latents of this shape."""
        noise = self._noise(field, packed)
        if self._given_probes is not None:
            probes = self._given_probes
            self.divergence.check_probes(field, probes, (*map(int, shape), int(packed.shape[-1])))
            noise = noise._replace(of_trace=torch.stack([field.pack(probe, shape) for probe in plain(probes)]))
        augmented = self.divergence.bind(field, noise.of_trace)
        if self.regularizers:
            return RegularizedField(augmented, field, self.regularizers, noise.of_regularizers)
        return augmented

    def _noise(self, field: VectorField, packed: Tensor) -> _Noise:
        """Return the noise for latents of this shape, drawn the first time."""
        if any(isinstance(size, torch.SymInt) for size in packed.shape):
            return self._draw_noise(field, packed)  # while a program of any batch is recorded, which has no memory
        key = tuple(map(int, packed.shape))  # torch.jit.trace makes sizes tensors, of which no two are the same key
        if key not in self._drawn_probes:
            self._drawn_probes[key] = self._draw_noise(field, packed)
        return self._drawn_probes[key]

    def _draw_noise(self, field: VectorField, packed: Tensor) -> _Noise:
        with outside_inference_mode():  # noise is kept, and may be wanted with gradients later
            of_trace = self.divergence.draw_probes(field, packed) if self._given_probes is None else None
            return _Noise(of_trace, [regularizer.draw_probes(field, packed) for regularizer in self.regularizers])


def _common_batch(of_dynamics: Size, of_time: Size) -> Size:
    try:
        return broadcast_shapes(of_dynamics, of_time)
    except RuntimeError:
        raise InvalidInputError(
            complaint(
                "integration_time", f"a shape that broadcasts with the batch {tuple(of_dynamics)}", tuple(of_time)
            )
        ) from None


class _Noise(NamedTuple):
    """The noise for latents of one shape."""

    of_trace: Tensor | None
    of_regularizers: list[Tensor | None]


def check_integration_time(integration_time: object) -> None:
    """Check that T is a positive number, or a tensor of positive numbers.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(integration_time, Tensor):
        right = integration_time.is_floating_point() and (
            integration_time.is_meta or known((integration_time > 0) & (integration_time < torch.inf)) is not False
        )
    else:
        right = is_number(integration_time) and cast(float, integration_time) > 0
    if not right:
        expected = "a positive number, or a tensor of them of the batch shape"
        raise InvalidInputError(complaint("integration_time", expected, repr(integration_time)))
