"""Draws from a posterior and their log-densities, of which every bound is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from vae_flows.checks import checked, described
from vae_flows.distributions import Draw, draw_from
from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name
from vae_flows.tensors.shapes import sum_rightmost

__all__ = ["Draws", "GradientEstimator", "LogDensity", "draw", "draw_record", "evaluate_log_density"]

GradientEstimator = Literal["reparameterized", "path"]
LogDensity = Callable[[Tensor], Tensor]


class Draws(NamedTuple):
    """Draws from q.

    Arguments:
        z: `(num_particles, *batch, *event)`.
        log_q: log q(z), `(num_particles, *batch)`.
    """

    z: Tensor
    log_q: Tensor


@checked
def draw(q: Distribution, num_particles: int = 1, gradient: GradientEstimator = "reparameterized") -> Draws:
    r"""Draw from q and score the draws; with `path`, the gradient of log q runs through z alone.

    The building block of objectives of one's own that are linear in log q, as the ELBO is. In others, such as those of
    importance weighting, `path` draws need the coefficients given above: take `renyi_bound`.

    Arguments:
        q: Any reparameterised distribution of PyTorch or Pyro.
        num_particles: Draws per example.
        gradient: `reparameterized` or `path`.

    Raises:
        InvalidInputError: q has no reparameterised samples, or fewer than one particle.
        UnknownNameError: There is no such gradient.

    Example:
        >>> from torch.distributions import Normal
        >>> scale = torch.tensor(2.0, requires_grad=True)
        >>> z, log_q = draw(Normal(0.0, scale), gradient="path")
        >>> log_q.sum().backward()
        >>> torch.allclose(scale.grad, (-z / 4 * z / 2).sum())  # the score, times the derivative of z
        True
    """
    drawn = draw_record(q, num_particles, gradient)
    return Draws(drawn.z, drawn.log_q)


def draw_record(q: Distribution, num_particles: int, gradient: GradientEstimator) -> Draw:
    """Do what `draw` does, and return the whole record."""
    require_positive("draw", num_particles=num_particles)
    if gradient not in get_args(GradientEstimator):
        raise unknown_name("gradient", str(gradient), get_args(GradientEstimator))
    if gradient != "path" or not torch.is_grad_enabled():
        return draw_from(q, (num_particles,))
    drawn = draw_from(q, (num_particles,), with_score=True)
    # Zero, with the score for a derivative.
    through_z = sum_rightmost(cast(Tensor, drawn.score) * (drawn.z - drawn.z.detach()), len(q.event_shape))
    return drawn._replace(log_q=drawn.log_q.detach() + through_z)


def evaluate_log_density(name: str, log_density: LogDensity, z: Tensor, shape: Size) -> Tensor:
    """Evaluate a log-density, called `name` in messages, at draws, once it gives one number for each of them."""
    value = log_density(z)
    if not isinstance(value, Tensor):
        raise InvalidInputError(complaint(name, f"a tensor of shape {tuple(shape)}", described(value)))
    if value.shape != shape:
        raise InvalidInputError(
            complaint(
                name,
                f"one number for each draw and example, shape {tuple(shape)}",
                f"shape {tuple(value.shape)} for z of shape {tuple(z.shape)}",
                "Sum over the dimensions of an event, or declare them with to_event.",
            )
        )
    return value
