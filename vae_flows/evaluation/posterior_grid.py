r"""The true posterior of models with two latents, on a grid, and how a flow carries its draws there.

:math:`p(z|x) = p(x|z)\,p(z) / \int p(x|z)\,p(z)\,dz`, whose integral two dimensions leave to a sum over cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Transform, TransformedDistribution

from vae_flows.checks import checked
from vae_flows.cnf import ContinuousTransform
from vae_flows.distributions import draw_from, evaluate
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import evaluating
from vae_flows.objectives import for_nonlinear_bound
from vae_flows.transforms import ChainTransform
from vae_flows.vae import VAE

__all__ = ["FlowPaths", "PosteriorGrid", "flow_paths", "posterior_grid"]

DRAWS = 400
"""Draws of prior and posterior that say where to look."""
ZOOMS, NEGLIGIBLE, MARGIN = 3, 1e-4, 1.2
"""How often a window is drawn closer; density over the largest one that it may leave out; how much wider it is then."""
SPREAD = 1.5
"""The first window is so much wider than the draws."""
ROUGH_CELLS = 24
"""Cells along a side while the square is chosen."""
VALUES_AT_ONCE = 2**22
"""Numbers of a decoder in memory."""


class PosteriorGrid(NamedTuple):
    """Approximate and true posterior of B examples at the centres of the cells of a square around both.

    Arguments:
        centres: Coordinates of the centres, `(B, 2, P)`: those of z₁, and those of z₂.
        log_q: log q(z | x), `(B, P, P)`, the first of both for z₂, the second for z₁, as pictures are drawn.
        log_p: log p(z | x), normalised on the grid, likewise.
    """

    centres: Tensor
    log_q: Tensor
    log_p: Tensor

    @property
    def cell_area(self) -> Tensor:
        """Area of a cell, `(B,)`."""
        return (self.centres[..., 1] - self.centres[..., 0]).prod(-1)

    @property
    def mass_of_q(self) -> Tensor:
        """The integral of q over the square, `(B,)`: 1 where it is all there and the cells are fine enough."""
        return self.log_q.double().exp().sum((-2, -1)) * self.cell_area

    @property
    def kl_divergence(self) -> Tensor:
        r"""KL(q ‖ p) on the grid in nats, `(B,)`: log p(x) − ELBO, by sums over the cells."""
        q = self.log_q.double().exp() * self.cell_area[:, None, None]
        return (q * (self.log_q - self.log_p)).sum((-2, -1))


class FlowPaths(NamedTuple):
    """Draws on their way from the Gaussian of a posterior through its flow.

    Arguments:
        states: `(T, S, *batch, D)`: T stations, the first one before the flow, the last one a draw of q.
        is_continuous: Whether draws move along curves, rather than jump from layer to layer.
    """

    states: Tensor
    is_continuous: bool


@checked
@torch.no_grad()
def posterior_grid(vae: VAE, x: Tensor, *, num_cells: int = 60, seed: int = 0) -> PosteriorGrid:
    """Evaluate q(z | x) and the true posterior of a model with two latents on a grid for each example.

    The square is chosen to hold both: first it holds draws of prior and q, then it is drawn closer to where either has
    more than a ten-thousandth of its largest density.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        x: Examples `(B, *event)`.
        num_cells: P, cells along a side.
        seed: Of the draws that say where to look.

    Raises:
        InvalidInputError: Another number of latents, too few cells, or examples that do not fit the model.

    Example:
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> grid = posterior_grid(vae, torch.rand(3, *shape))
        >>> torch.allclose(grid.mass_of_q, torch.ones(3).double(), atol=1e-2)
        True
    """
    require_positive("posterior_grid", num_cells=num_cells)
    if num_cells < 8 or x.dim() != vae.likelihood.event_dim + 1 or not len(x):
        got = f"{num_cells} and a tensor of shape {tuple(x.shape)}"
        raise InvalidInputError(complaint("posterior_grid", "8 cells or more, and one batch of examples", got))
    with evaluating(vae, seed, "posterior_grid"):
        q = for_nonlinear_bound("log q", vae.encode(x), "posterior_grid")
        if q.event_shape != (2,):
            remedy = "For more latents, see vae_flows.reporting.plot_aggregate_posterior."
            raise InvalidInputError(complaint("latents of posterior_grid", "two", q.event_shape[0], remedy))
        drawn = draw_from(q, (DRAWS,)).z
        prior = vae.prior(drawn).sample(Size([DRAWS])).unsqueeze(1).expand_as(drawn)
        low, high = torch.cat([drawn, prior]).aminmax(dim=0)
        low, high = _square(low, high, SPREAD)
        for _ in range(ZOOMS):
            grid = _evaluate(vae, q, x, low, high, min(num_cells, ROUGH_CELLS))
            low, high = _zoomed(grid, low, high)
        return _evaluate(vae, q, x, low, high, num_cells)


@checked
@torch.no_grad()
def flow_paths(q: Distribution, num_samples: int = 100, num_steps: int = 20) -> FlowPaths:
    """Follow draws of the Gaussian through the flow of a posterior.

    Arguments:
        q: A posterior, such as `vae.encode(x)`.
        num_samples: S, draws.
        num_steps: Stations along each continuous flow; of other flows there is one after each layer.

    Raises:
        InvalidInputError: A size is not positive, or q has no transforms.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> q = AmortizedPosterior(2, 6, flow="planar", num_layers=3).eval()(torch.randn(5, 6))
        >>> flow_paths(q, 10).states.shape
        torch.Size([4, 10, 5, 2])
    """
    require_positive("flow_paths", num_samples=num_samples, num_steps=num_steps)
    if not isinstance(q, TransformedDistribution):
        raise InvalidInputError(complaint("flow_paths q", "a distribution with transforms", type(q).__name__))
    parts = [part for transform in q.transforms for part in _parts(transform)]
    states = [q.base_dist.sample(Size([num_samples]))]
    for part in parts:
        start = states[-1]
        if isinstance(part, ContinuousTransform):
            states += [part.until(step / num_steps)(start) for step in range(1, num_steps)]
        states.append(cast(Tensor, part(start)))
    return FlowPaths(torch.stack(states), any(isinstance(part, ContinuousTransform) for part in parts))


def _parts(transform: Transform) -> Iterator[Transform]:
    if isinstance(transform, ChainTransform):
        for part in transform.parts:
            yield from _parts(part)
    else:
        yield transform


def _evaluate(vae: VAE, q: Distribution, x: Tensor, low: Tensor, high: Tensor, cells: int) -> PosteriorGrid:
    places = (torch.arange(cells, dtype=low.dtype, device=low.device) + 0.5) / cells
    centres = low[..., None] + (high - low)[..., None] * places  # (B, 2, P)
    z = torch.stack(
        [centres[:, 0, None, :].expand(-1, cells, -1), centres[:, 1, :, None].expand(-1, -1, cells)], -1
    )  # (B, P, P, 2)
    flat = z.flatten(1, 2).transpose(0, 1)  # (P², B, 2)
    size = max(1, VALUES_AT_ONCE // max(1, x.numel() * vae.likelihood.parameters_per_pixel))
    log_q, log_joint = [], []
    for part in flat.split(size):
        log_q.append(evaluate(q, part.clone()).log_q.double())
        log_joint.append((vae.log_likelihood(x, part) + vae.log_prior(part)).double())
    area = ((high - low).double() / cells).prod(-1)
    joint = torch.cat(log_joint)
    log_p = joint - joint.logsumexp(0) - area.log()
    shape = (len(x), cells, cells)
    return PosteriorGrid(centres, torch.cat(log_q).T.reshape(shape), log_p.T.reshape(shape))


def _square(low: Tensor, high: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the corners of a square around the middle of a box, wider than its longer side by a factor."""
    middle, half = (low + high) / 2, (high - low).amax(-1, keepdim=True) / 2 * factor
    return middle - half, middle + half


def _zoomed(grid: PosteriorGrid, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of a square around the cells in which either density counts."""
    counts = torch.zeros_like(grid.log_q, dtype=torch.bool)
    for log_density in (grid.log_q, grid.log_p):
        counts |= log_density > log_density.amax((-2, -1), keepdim=True) + math.log(NEGLIGIBLE)
    width = (high - low) / grid.centres.shape[-1]
    corners = []
    for axis, dim in ((0, -2), (1, -1)):  # which z₁ have a cell that counts: any over z₂
        used = counts.any(dim)
        centres = grid.centres[:, axis]
        least = torch.where(used, centres, math.inf).amin(-1) - width[:, axis] / 2
        most = torch.where(used, centres, -math.inf).amax(-1) + width[:, axis] / 2
        corners.append((least, most))
    low, high = (torch.stack([corner[place] for corner in corners], -1) for place in (0, 1))
    return _square(low, high, MARGIN)
