"""Continuous normalizing flows as density models: a standard Gaussian carried to the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from vae_flows.call_stack import calling_objective
from vae_flows.checks import checked
from vae_flows.cnf.amortization import AmortizationName, make_amortization, rank_of, upgraded_rank
from vae_flows.cnf.convolutions import ConvolutionalDynamics
from vae_flows.cnf.divergence import Divergence, divergence_from
from vae_flows.cnf.dynamics import MLPDynamics
from vae_flows.cnf.fields import ConditionedDynamics
from vae_flows.cnf.regularization import Regularizer, check_regularizers
from vae_flows.cnf.settings import Setting
from vae_flows.cnf.transform import ContinuousTransform, check_integration_time
from vae_flows.errors import InvalidInputError, complaint, refuse_unused, require_number, require_positive
from vae_flows.ode.solver import ODESolver, require_solver
from vae_flows.ode.work_counts import WorkCount, WorkMeter, total_work
from vae_flows.persistence.configuration import register_class
from vae_flows.tensors.precision import full_precision, in_own_type
from vae_flows.tensors.shapes import check_context, check_finite, check_like
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform

if TYPE_CHECKING:
    from vae_flows.distributions import DiagonalNormal, FlowDistribution

__all__ = ["ContinuousNormalizingFlow"]


Dynamics = MLPDynamics | ConvolutionalDynamics


@register_class("ContinuousNormalizingFlow")
class ContinuousNormalizingFlow(nn.Module):
    r"""p(x), or p(x | context): :math:`z(0) \sim N(0, I)` carried to :math:`x = z(T)` by :math:`dz/dt = f(t, z)`.

    One solve, backwards from x, gives :math:`\log p(x) = \log N(z(0)) - \int_0^T \operatorname{tr}(\partial f/\partial
    z)\,dt` (Chen et al. 2018, theorem 1; Grathwohl et al. 2019, equations 3 and 4); one solve forwards gives a sample.
    In training mode the trace is estimated without bias, in evaluation mode it is exact.

    Calling the module makes a distribution, which serves as the prior of a `VAE` as well. Make a new one for each
    training step: it draws its noise once. What regularisers add to the loss of x is
    `distribution.evaluate(x).regularization`, beside `log_q`, in the same solve.

    Solvers, divergences, regularisers, T and its jitter may be assigned later, too:
    `flow.eval_solver = ODESolver(rtol=1e-7)`.

    Arguments:
        dynamics: The vector field, or several, which then follow each other, each for a time of its own: an
            `MLPDynamics`, or `ConvolutionalDynamics` of images laid out as vectors.
        context_dim: Size of the context vectors of a conditional density, C; `None` for an unconditional one.
        amortization: What a context sets in the dynamics, by the names of `make_amortization`; `bias` by default, and
            none without a context.
        rank: Rank of the update of `low_rank` amortisation, 20 by default.
        integration_time: T, of each of the dynamics.
        train_integration_time: Whether each T is learned, starting at `integration_time`.
        end_time_jitter: b: in training, T is drawn uniformly from (T − b, T + b) for each transform (STEER); b is
            of the T to start with, and changes in proportion to one that is learned.
        divergence: Trace in training mode: a name, or a `Divergence` with noise and number of probes.
        eval_divergence: Trace in evaluation mode.
        solver: Settings of the solver.
        eval_solver: Settings in evaluation mode, such as tighter tolerances; by default the same.
        regularizers: `KineticEnergy` or `JacobianNorm` with their weights; they count in training mode.

    Raises:
        InvalidInputError: An argument out of range, or dynamics of different latent dimensions.
        UnknownNameError: An unknown name.

    Example:
        >>> flow = ContinuousNormalizingFlow(MLPDynamics(2, (16,)))
        >>> x = torch.randn(5, 2)
        >>> loss = -flow().log_prob(x).mean()
        >>> loss.backward()
        >>> flow().sample((3,)).shape
        torch.Size([3, 2])
    """

    solver: Setting[ODESolver] = Setting(lambda _, subject, value: require_solver(subject, value))
    eval_solver: Setting[ODESolver] = Setting(lambda _, subject, value: require_solver(subject, value))
    divergence: Setting[Divergence] = Setting(lambda _, __, value: divergence_from(value))
    eval_divergence: Setting[Divergence] = Setting(lambda _, __, value: divergence_from(value))
    regularizers: Setting[tuple[Regularizer, ...]] = Setting(
        lambda _, subject, value: check_regularizers(subject, value)
    )
    integration_time: Setting[float] = Setting(lambda flow, subject, value: _new_integration_time(flow, subject, value))
    end_time_jitter: Setting[float] = Setting(lambda flow, subject, value: _new_jitter(flow, subject, value))

    @checked
    def __init__(
        self,
        dynamics: Dynamics | Sequence[Dynamics],
        *,
        context_dim: int | None = None,
        amortization: AmortizationName | None = None,
        rank: int | None = None,
        integration_time: float = 1.0,
        train_integration_time: bool = False,
        end_time_jitter: float = 0.0,
        divergence: str | Divergence = "hutchinson",
        eval_divergence: str | Divergence = "exact",
        solver: ODESolver | None = None,
        eval_solver: ODESolver | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__()
        blocks = [dynamics] if isinstance(dynamics, nn.Module) else list(dynamics)
        sizes = {block.latent_dim for block in blocks}
        if len(sizes) != 1:
            raise InvalidInputError(complaint("dynamics", "one or more of one latent dimension", sorted(sizes)))
        self.latent_dim = sizes.pop()
        self.context_dim = context_dim
        self.dynamics = nn.ModuleList(blocks)
        self.amortizations = nn.ModuleList()
        if context_dim is None:
            refuse_unused("ContinuousNormalizingFlow", "no context_dim", amortization=amortization, rank=rank)
        else:
            require_positive("ContinuousNormalizingFlow", context_dim=context_dim)
            amortization = "bias" if amortization is None else amortization
            rank = rank_of("ContinuousNormalizingFlow", amortization, rank)
            widths = [_widths(block) for block in blocks]
            self.amortizations.extend(make_amortization(amortization, each, context_dim, rank) for each in widths)
        self.amortization = amortization
        self.rank = rank
        self.integration_time = integration_time
        self.train_integration_time = train_integration_time
        # The logarithm keeps a learned T positive.
        start = torch.full((len(blocks),), math.log(integration_time))
        self.log_integration_time = nn.Parameter(start) if train_integration_time else None
        self.end_time_jitter = end_time_jitter
        self.divergence = divergence
        self.eval_divergence = eval_divergence
        self.solver = ODESolver() if solver is None else solver
        self.eval_solver = self.solver if eval_solver is None else eval_solver
        self.regularizers = regularizers
        self._meters: list[WorkMeter | None] = [None] * len(blocks)

    @classmethod
    def upgrade_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration that an earlier release wrote as this one would."""
        if config.get("context_dim") is None:
            return {**config, "amortization": None, "rank": None}
        return upgraded_rank(config)

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest pass through all blocks, `None` before the first."""
        return total_work(meter for meter in self._meters if meter is not None)

    @property
    def duration(self) -> float:
        """The time from the Gaussian to the data: the sum of each block's T."""
        return sum(self._constant_times())

    def base(self) -> DiagonalNormal:
        """Return the law of z(0), N(0, I), with event shape `(D,)`."""
        # Imported where laws are made: they are Pyro's distributions, without which the rest of the core does.
        from vae_flows.distributions import DiagonalNormal

        zeros = next(self.parameters()).new_zeros(self.latent_dim)
        return DiagonalNormal(zeros, torch.ones_like(zeros), validate_args=False)

    @checked
    def transform(self, context: Tensor | None = None, *, until: float | None = None) -> FusedTransform:
        """Return the map from z(0) to x = z(T), or to z(t) on the way.

        Arguments:
            context: `(*batch, C)`, for a conditional density only.
            until: The t to stop at, above 0; by default the end, `duration`, jittered where that is asked for.

        Raises:
            InvalidInputError: A context that is missing, not asked for or of another size, or a time out of range.
        """
        self._check(context)
        blocks = [
            ContinuousTransform(
                self._condition(index, context),
                integration_time=time,
                divergence=self.divergence if self.training else self.eval_divergence,
                solver=self.solver if self.training else self.eval_solver,
                regularizers=self.regularizers if self.training else (),
                on_solve=partial(self._meters.__setitem__, index),
            )
            for index, time in enumerate(self._end_times(until))
        ]
        transform = blocks[0] if len(blocks) == 1 else ChainTransform(blocks)
        # Objectives of this library do that themselves, of any distribution.
        return transform if calling_objective() is None else transform.exact()

    def forward(self, context: Tensor | None = None, *, until: float | None = None) -> FlowDistribution:
        """Return the law of x, or of z(t) where `until` is t: batch shape `*batch`, event shape `(D,)`.

        Arguments:
            context: As for `transform`.
            until: As for `transform`.
        """
        from vae_flows.distributions import FlowDistribution

        return FlowDistribution(self.base(), [self.transform(context, until=until)], validate_args=False)

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}, context_dim={self.context_dim}, integration_time={self.integration_time}"

    def _check(self, context: Tensor | None) -> None:
        if context is not None and self.context_dim is not None:
            check_context(type(self).__name__, context, self.context_dim)
            if context.device != next(self.parameters()).device:
                check_like(f"{type(self).__name__} context", context, self)
            check_finite(f"{type(self).__name__} context", context)
        elif (context is None) != (self.context_dim is None):
            expected = "none" if self.context_dim is None else f"shape (*batch, {self.context_dim})"
            got = "none" if context is None else f"shape {tuple(context.shape)}"
            remedy = "context_dim says whether the density is conditional."
            raise InvalidInputError(complaint(f"{type(self).__name__} context", expected, got, remedy))

    def _condition(self, index: int, context: Tensor | None) -> ConditionedDynamics:
        if context is None:
            return cast(Dynamics, self.dynamics[index]).condition()
        dynamics = cast(MLPDynamics, self.dynamics[index])
        context = in_own_type(f"{type(self).__name__} context", context, next(self.parameters()).dtype)
        # Dynamics and densities are computed in full precision, and so is what they are made of.
        with full_precision(context):
            return dynamics.condition(self.amortizations[index](context), context.shape[:-1])

    def _learned_times(self) -> list[float | Tensor]:
        if self.log_integration_time is None:
            return [self.integration_time] * len(self.dynamics)
        return list(self.log_integration_time.exp())

    def _constant_times(self) -> list[float]:
        return [time.item() if isinstance(time, Tensor) else time for time in self._learned_times()]

    def _end_times(self, until: float | None) -> list[float | Tensor]:
        """Return how long each block runs; those that begin after the time `until` are left out."""
        times = self._learned_times()
        if until is None:
            if self.training and self.end_time_jitter:
                return [self._jittered(time) for time in times]
            return times
        if not 0 < until <= self.duration:
            raise InvalidInputError(complaint("until", f"a time above 0 and at most {self.duration}", until))
        constant = self._constant_times()
        starts = accumulate(constant, initial=0.0)
        return [min(time, until - start) for time, start in zip(constant, starts, strict=False) if until > start]

    def _jittered(self, time: float | Tensor) -> float | Tensor:
        moved = (2 * torch.rand((), device="cpu").item() - 1) * self.end_time_jitter
        # A learned T takes its jitter along: it may have become shorter than that.
        return time * (1 + moved / self.integration_time) if isinstance(time, Tensor) else time + moved


def _new_integration_time(flow: ContinuousNormalizingFlow, subject: str, value: object) -> float:
    if isinstance(value, Tensor):
        raise InvalidInputError(complaint(subject, "a positive number", repr(value)))
    check_integration_time(value)
    if getattr(flow, "log_integration_time", None) is not None:
        raise InvalidInputError(complaint(subject, "none, as it is learned", value, "Set log_integration_time."))
    time = cast(float, value)
    _check_jitter(f"{type(flow).__name__} end_time_jitter", vars(flow).get("end_time_jitter", 0.0), time)
    return time


def _new_jitter(flow: ContinuousNormalizingFlow, subject: str, value: object) -> float:
    require_number(type(flow).__name__, "end_time_jitter", value, least=0.0)
    return _check_jitter(subject, cast(float, value), flow.integration_time)


def _check_jitter(subject: str, jitter: float, integration_time: float) -> float:
    if not 0 <= jitter < integration_time:
        raise InvalidInputError(complaint(subject, f"at least 0 and below T = {integration_time}", jitter))
    return jitter


def _widths(dynamics: Dynamics) -> tuple[int, ...]:
    """Return the widths of the layers that a context may update."""
    if isinstance(dynamics, MLPDynamics):
        return dynamics.widths
    expected = "MLPDynamics, for a density that has a context"
    raise InvalidInputError(complaint("dynamics", expected, type(dynamics).__name__))
