"""The amortised posterior: a context in, a flow distribution out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform
from torch.nn import functional as F

from vae_flows.checks import checked, described
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.distributions.diagonal_normal import RenewedNormal
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.registry import make_flow, registered_name, upgraded_options
from vae_flows.modules import bound
from vae_flows.ode.work_counts import WorkCount
from vae_flows.persistence.configuration import config_of, register_class
from vae_flows.persistence.savable import SavableModule
from vae_flows.protocols import name_of, work_of
from vae_flows.tensors.known_values import functorch_is_active
from vae_flows.tensors.precision import full_precision, in_own_type
from vae_flows.tensors.shapes import check_context, check_finite, check_like

__all__ = ["AmortizedPosterior"]


@register_class("AmortizedPosterior")
class AmortizedPosterior(SavableModule):
    r"""q(z | h): a diagonal Gaussian :math:`N(\mu(h), \sigma^2(h))` carried by a flow conditioned on the context h.

    The mean is linear in h, the variance the softplus of a linear map (van den Berg et al. 2018, published settings).

    Arguments:
        latent_dim: Size of z, D.
        context_dim: Size of h, C.
        flow: Name of a flow, an `AmortizedFlow` of these sizes, or any callable that maps a context to a transform,
            such as Pyro's conditional transforms by their `condition` method.
        variance_bounds: Range to which σ² is clamped, such as (0.01, 7) for Frey Faces in the literature.
        **flow_options: Passed to the flow's class when `flow` is a name.

    Raises:
        UnknownNameError: No flow has that name.
        InvalidInputError: Sizes that disagree, bounds out of order, or options without a name.

    Example:
        >>> posterior = AmortizedPosterior(latent_dim=4, context_dim=8, flow="planar")
        >>> q = posterior(torch.randn(5, 8))
        >>> q.batch_shape, q.event_shape, q.rsample((3,)).shape
        (torch.Size([5]), torch.Size([4]), torch.Size([3, 5, 4]))
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        flow: str | AmortizedFlow | Callable[[Tensor], Transform] = "ffjord",
        *,
        variance_bounds: tuple[float, float] | None = None,
        **flow_options: Any,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, latent_dim=latent_dim, context_dim=context_dim)
        if isinstance(flow, str):
            flow = make_flow(flow, latent_dim, context_dim, **flow_options)
        elif flow_options:
            raise InvalidInputError(complaint("flow options", "the name of a flow with them", sorted(flow_options)))
        if isinstance(flow, AmortizedFlow) and (flow.latent_dim, flow.context_dim) != (latent_dim, context_dim):
            raise InvalidInputError(
                complaint(
                    "flow of AmortizedPosterior",
                    f"latent_dim {latent_dim} and context_dim {context_dim}",
                    f"{flow.latent_dim} and {flow.context_dim}",
                )
            )
        if isinstance(flow, type):
            remedy = f"Make it: {flow.__name__}({latent_dim}, {context_dim})."
            raise InvalidInputError(complaint("flow", "a name, a flow or a callable", described(flow), remedy))
        if variance_bounds is not None and not 0 < variance_bounds[0] < variance_bounds[1]:
            raise InvalidInputError(complaint("variance_bounds", "0 < lower < upper", variance_bounds))
        self.latent_dim = latent_dim
        self.context_dim = context_dim
        self.variance_bounds = variance_bounds
        self.gaussian = nn.Linear(context_dim, 2 * latent_dim)
        self.flow = flow

    @property
    def flow_name(self) -> str:
        """Name of the flow: its registered name, or that of its class or function."""
        return name_of(self.flow)

    def get_config(self) -> Mapping[str, Any]:
        """Return the constructor's arguments, a flow that is known by name being given by name and options."""
        name = registered_name(self.flow)
        config = {
            "latent_dim": self.latent_dim,
            "context_dim": self.context_dim,
            "flow": name or self.flow,
            "variance_bounds": self.variance_bounds,
        }
        return {**config, **config_of(self.flow)} if name else config

    @classmethod
    def upgrade_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the configuration that an earlier release wrote as this one would, the flow's options included."""
        return upgraded_options(config["flow"], config) if isinstance(config.get("flow"), str) else config

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the flow's latest ODE solve, `None` for flows that make none."""
        return work_of(self.flow)

    def base(self, context: Tensor) -> DiagonalNormal:
        """Return the Gaussian that the flow starts from, with batch shape `*batch` and event shape `(D,)`."""
        check_context(type(self).__name__, context, self.context_dim)
        check_like(f"{type(self).__name__} context", context, self.gaussian)
        return self._base(context)

    def _base(self, context: Tensor) -> DiagonalNormal:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or functorch_is_active():
            return DiagonalNormal(*self._moments(self.gaussian, context), validate_args=False)
        return RenewedNormal(partial(self._moments, bound(self.gaussian), context))

    def _moments(self, gaussian: nn.Linear, context: Tensor) -> tuple[Tensor, Tensor]:
        parameters = gaussian(context)
        check_finite(f"{type(self).__name__} context", parameters, context=context)
        mean, raw_variance = parameters.chunk(2, -1)
        # The floor is far below any variance that matters; it keeps log σ finite where softplus underflows.
        variance = F.softplus(raw_variance) + torch.finfo(context.dtype).tiny ** 0.5
        if self.variance_bounds is not None:
            variance = variance.clamp(*self.variance_bounds)
        return mean, variance.sqrt()

    def forward(self, context: Tensor) -> FlowDistribution:
        """Return q(z | h) for a context `(*batch, C)`."""
        check_context(type(self).__name__, context, self.context_dim)
        # Under automatic mixed precision the encoder's features may have 16 bits; densities need 32.
        if context.device != self.gaussian.weight.device:
            check_like(f"{type(self).__name__} context", context, self.gaussian)
        context = in_own_type(f"{type(self).__name__} context", context, self.gaussian.weight.dtype)
        with full_precision(context):
            return FlowDistribution(self._base(context), [self.flow(context)], validate_args=False)

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}, context_dim={self.context_dim}, variance_bounds={self.variance_bounds}"
