"""How several sites share flows: one flow over all, one each, or one each given the sites before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import pyro
import torch
from pyro.distributions import Delta, TorchDistribution
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from vae_flows.distributions import FlowDistribution
from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.flows.base import AmortizedFlow
from vae_flows.guides.sites import LocalSite, PackedTransform, unconstrained
from vae_flows.ode.work_counts import WorkCount
from vae_flows.posterior import AmortizedPosterior
from vae_flows.protocols import Posterior, condition_posterior, context_size_of, size_of, work_of

__all__ = ["PackingName", "SitePacking", "as_module", "posteriors_of", "total_work"]

PackingName = Literal["joint", "separate", "autoregressive"]


@dataclass(frozen=True)
class SitePacking:
    r"""The factorisation of q over sites with unconstrained values u₁, …, u_K given the context h.

    `joint` is one flow, q(u₁, …, u_K | h); `separate` is :math:`\prod_k q(u_k | h)`; `autoregressive` is
    :math:`\prod_k q(u_k | h, u_1, \dots, u_{k-1})`.

    Arguments:
        sites: The sites, in the model's order.
        name: The factorisation.

    Raises:
        InvalidInputError: No site, or two of one name.
        UnknownNameError: An unknown factorisation.

    Example:
        >>> packing = SitePacking((LocalSite("a"), LocalSite("b", (3,))), "autoregressive")
        >>> packing.sizes(context_dim=8)
        [(1, 8), (3, 9)]
    """

    sites: tuple[LocalSite, ...]
    name: PackingName = "joint"

    def __post_init__(self) -> None:
        if self.name not in get_args(PackingName):
            raise unknown_name("packing", self.name, get_args(PackingName))
        names = [site.name for site in self.sites]
        if not names or len(set(names)) < len(names):
            raise InvalidInputError(complaint("sites of a guide", "at least one, each of its own name", names))

    @property
    def blocks(self) -> tuple[tuple[LocalSite, ...], ...]:
        """The sites that share a flow, flow by flow."""
        return (self.sites,) if self.name == "joint" else tuple((site,) for site in self.sites)

    def describe(self) -> str:
        """Name the sites with the shapes of one row's value."""
        return ", ".join(f"{site.name!r} {tuple(site.event_shape)}" for site in self.sites)

    def sizes(self, context_dim: int) -> list[tuple[int, int]]:
        """Return the latent and context sizes that each flow must have, for contexts `(…, context_dim)`."""
        sizes = []
        for block in self.blocks:
            latent_dim = sum(site.size for site in block)
            sizes.append((latent_dim, context_dim))
            context_dim += latent_dim if self.name == "autoregressive" else 0
        return sizes

    def make_posteriors(self, context_dim: int, flow: str | AmortizedFlow, options: Mapping[str, Any]) -> nn.Module:
        """Make the posteriors for contexts `(…, context_dim)`.

        Raises:
            InvalidInputError: A flow object of other sizes, or one for several flows.
        """
        sizes = self.sizes(context_dim)
        if isinstance(flow, AmortizedFlow) and sizes != [(flow.latent_dim, flow.context_dim)]:
            raise self._wrong_sizes(sizes, [(flow.latent_dim, flow.context_dim)])
        return as_module([AmortizedPosterior(*size, flow, **options) for size in sizes])

    def check_posteriors(self, posteriors: Sequence[Posterior]) -> int | None:
        """Return the context size that the posteriors need, `None` where they do not tell.

        Raises:
            InvalidInputError: Their number or sizes are not those of the sites.
        """
        got = [(size_of(posterior), context_size_of(posterior)) for posterior in posteriors]
        context_dim = got[0][1] if got else None
        wanted = self.sizes(context_dim or 1)
        agree = len(got) == len(wanted) and all(
            latent in (None, size) and (context_dim is None or context in (None, context_size))
            for (latent, context), (size, context_size) in zip(got, wanted, strict=True)
        )
        if not agree:
            raise self._wrong_sizes(wanted, got)
        return context_dim

    def sample(self, posteriors: Sequence[Posterior], context: Tensor) -> dict[str, Tensor]:
        """Sample the sites, each flow solving once, from within the plate.

        Arguments:
            posteriors: Those of `make_posteriors`.
            context: `(*batch, context_dim)`, where `*batch` is what the plate makes of the batch.

        Returns:
            The sites' values by name.
        """
        values: dict[str, Tensor] = {}
        blocks = self.blocks
        for number, (block, posterior) in enumerate(zip(blocks, posteriors, strict=True), 1):
            transform = block[0].transform() if len(block) == 1 else PackedTransform(block)
            q = condition_posterior(posterior, context, sum(site.size for site in block))
            of_block, sampled = _sample_block(block, transform, q)
            values |= of_block
            if self.name == "autoregressive" and number < len(blocks):
                earlier = unconstrained(transform, sampled)
                context = torch.cat([context.expand((*earlier.shape[:-1], context.shape[-1])), earlier], -1)
        return values

    def _wrong_sizes(
        self, expected: list[tuple[int, int]], got: Sequence[tuple[int | None, int | None]]
    ) -> InvalidInputError:
        return InvalidInputError(
            complaint(
                f"flows of sites {self.describe()} packed {self.name!r}",
                f"(latent_dim, context_dim) = {', '.join(map(str, expected))}",
                ", ".join(map(str, got)) or "none",
                "latent_dim is the number of unconstrained coordinates of the sites of a flow.",
            )
        )


def as_module(posteriors: Sequence[nn.Module]) -> nn.Module:
    """Return the only posterior, or the list of several, as a guide keeps them."""
    return posteriors[0] if len(posteriors) == 1 else nn.ModuleList(posteriors)


def posteriors_of(module: nn.Module) -> list[nn.Module]:
    """Return the posteriors that `as_module` put together."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def total_work(module: nn.Module) -> WorkCount | None:
    """Return the work of the latest solves of all posteriors, `None` where they made none."""
    works = [work_of(posterior) for posterior in posteriors_of(module)]
    solves = [work for work in works if work is not None]
    return WorkCount.total(solves) if solves else None


def _sample_block(
    block: Sequence[LocalSite], transform: Transform, of_block: TorchDistribution
) -> tuple[dict[str, Tensor], Tensor]:
    """Sample the sites of one flow; return their values, and what `transform` gave."""
    # One chain of transforms, where there is one, so that each of them meets its own sample again.
    base, own = (of_block.base_dist, of_block.transforms) if isinstance(of_block, FlowDistribution) else (of_block, [])
    q = FlowDistribution(base, [*own, transform], validate_args=False)
    name = "_".join(site.name for site in block)
    if isinstance(transform, PackedTransform):
        sampled = cast(Tensor, pyro.sample(f"_{name}_joint", q, infer={"is_auxiliary": True}))
        # The auxiliary site bears the Jacobians: TraceMeanField_ELBO loses the log-density of a Delta.
        values = {
            site.name: cast(Tensor, pyro.sample(site.name, Delta(value, event_dim=len(site.event_shape))))
            for site, value in zip(block, transform.split(sampled), strict=True)
        }
    else:
        sampled = cast(Tensor, pyro.sample(name, q))
        values = {name: sampled}
    if q.is_regularized:
        # A guide's factor counts against the bound, as a regulariser should.
        regularization = cast(Tensor, q.evaluate(sampled).regularization)
        pyro.factor(f"_{name}_regularization", regularization, has_rsample=True)
    return values, sampled
