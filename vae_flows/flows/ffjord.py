"""FFJORD as an amortised posterior flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vae_flows.checks import checked
from vae_flows.cnf.amortization import AmortizationName, rank_of, upgraded_rank
from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.cnf.divergence import Divergence, Noise, divergence_from, takes_noise
from vae_flows.cnf.dynamics import MLPDynamics
from vae_flows.cnf.hooks import refuse_hooks
from vae_flows.cnf.layers import TimeConditioning
from vae_flows.cnf.regularization import Regularizer
from vae_flows.cnf.settings import SharedSettings
from vae_flows.errors import refuse_unused, require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.registry import register_flow
from vae_flows.ode.solver import ODESolver
from vae_flows.ode.work_counts import WorkCount
from vae_flows.transforms.base import FusedTransform

__all__ = ["FFJORD"]


@register_flow("ffjord")
class FFJORD(SharedSettings, AmortizedFlow):
    r"""Continuous dynamics :math:`dz/dt = f(t, z; h)` whose parameters depend on the context h.

    z(0) is carried to z(T), and :math:`\log q` changes by :math:`-\int_0^T \operatorname{tr}(\partial f/\partial z) dt`
    (Grathwohl et al. 2019, equations 3 and 4 and section 4.2). In training mode the trace is estimated without bias,
    in evaluation mode it is exact.

    Arguments:
        latent_dim: Size of the latent vectors, D.
        context_dim: Size of the context vectors, C.
        hidden_dims: Widths of the dynamics' hidden layers.
        num_blocks: Flows in sequence, each with dynamics and a solve of its own.
        amortization: What the context sets: `concat` (one more input of the first layer), `bias` (a shift of each
            layer), `low_rank` (the shift, and an update of rank `rank` of each weight), `last_layer` (the whole last
            layer) or `hyper` (the whole network).
        rank: Rank of the update of `low_rank` amortisation, 20 by default.
        activation: `softplus`, `tanh`, `silu`, `elu`, `sine` or `swish`, whose β is learned.
        time_conditioning: `concat` (t is an input of each layer), `ignore`, `squash`, `concat_squash`, `blend` or
            `hyper`.
        integration_time: T.
        train_integration_time: Whether T of each block is learned, starting at `integration_time`.
        end_time_jitter: b: in training, T is drawn uniformly from (T − b, T + b) for each transform (STEER, Ghosh et
            al. 2020); b is of the T to start with, and changes in proportion to one that is learned.
        divergence: Trace in training mode: `hutchinson`, `exact`, `bottleneck` or `brute_force`.
        noise: `gaussian`, the default, or `rademacher`, of estimates that are given by name.
        num_probes: Noise draws averaged in one of these, 1 by default.
        eval_divergence: Trace in evaluation mode.
        solver: Settings of the solver.
        eval_solver: Settings in evaluation mode, such as tighter tolerances; those of `solver` by default.
        regularizers: `KineticEnergy` or `JacobianNorm` with their weights; they count in training mode.

    Raises:
        InvalidInputError: An argument out of range, or one that has no effect beside the others.
        UnknownNameError: An unknown name, with the nearest ones.

    Example:
        >>> import torch
        >>> flow = FFJORD(latent_dim=4, context_dim=8, hidden_dims=(16,), rank=2)
        >>> transform = flow(torch.randn(5, 8))
        >>> transform(torch.randn(3, 5, 4)).shape
        torch.Size([3, 5, 4])
        >>> flow.last_solve.forward_evaluations > 0
        True
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        *,
        hidden_dims: Sequence[int] = (512, 512),
        num_blocks: int = 1,
        amortization: AmortizationName = "low_rank",
        rank: int | None = None,
        activation: str = "softplus",
        time_conditioning: TimeConditioning = "concat",
        integration_time: float = 0.5,
        train_integration_time: bool = False,
        end_time_jitter: float = 0.0,
        divergence: str | Divergence = "hutchinson",
        noise: Noise | None = None,
        num_probes: int | None = None,
        eval_divergence: str | Divergence = "exact",
        solver: ODESolver | None = None,
        eval_solver: ODESolver | None = None,
        regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__(latent_dim, context_dim)
        require_positive("FFJORD", num_blocks=num_blocks)
        if not (takes_noise(divergence) or takes_noise(eval_divergence)):
            refuse_unused("FFJORD", f"divergence={divergence!r}", noise=noise, num_probes=num_probes)
        divergence, eval_divergence = (
            divergence_from(one, noise, num_probes) if takes_noise(one) else divergence_from(one)
            for one in (divergence, eval_divergence)
        )
        self.hidden_dims = tuple(hidden_dims)
        self.activation = activation
        self.time_conditioning = time_conditioning
        self.cnf = ContinuousNormalizingFlow(
            [
                MLPDynamics(latent_dim, hidden_dims, activation=activation, time_conditioning=time_conditioning)
                for _ in range(num_blocks)
            ],
            context_dim=context_dim,
            amortization=amortization,
            rank=rank_of("FFJORD", amortization, rank),
            integration_time=integration_time,
            train_integration_time=train_integration_time,
            end_time_jitter=end_time_jitter,
            divergence=divergence,
            eval_divergence=eval_divergence,
            solver=solver,
            eval_solver=eval_solver,
            regularizers=regularizers,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that would build this flow again, with the settings as they are now."""
        own = ("latent_dim", "context_dim", "hidden_dims", "activation", "time_conditioning")
        of_flow = (
            "amortization",
            "rank",
            "integration_time",
            "train_integration_time",
            "end_time_jitter",
            "divergence",
            "eval_divergence",
            "solver",
            "eval_solver",
            "regularizers",
        )
        return {
            **{name: getattr(self, name) for name in own},
            "num_blocks": len(self.cnf.dynamics),
            **{name: getattr(self.cnf, name) for name in of_flow},
        }

    @classmethod
    def upgrade_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration that an earlier release wrote as this one would."""
        return upgraded_rank(config)

    @property
    def continuous_flows(self) -> Sequence[ContinuousNormalizingFlow]:
        """The flow of its blocks."""
        return [self.cnf]

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest pass through all blocks, `None` before the first."""
        return self.cnf.last_solve

    def transform(self, context: Tensor) -> FusedTransform:
        refuse_hooks(self.cnf)
        return self.cnf.transform(context)
