"""What draws and evaluations of distributions return."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vae_flows.ode.work_counts import WorkCount, WorkMeter, total_work

__all__ = ["Draw", "ScoredSample"]


class ScoredSample(NamedTuple):
    r"""A sample with its log-density and score.

    Arguments:
        z: The sample, `(*sample, *batch, *event)`.
        log_q: :math:`\log q(z)`, `(*sample, *batch)`, differentiable like any `log_prob`.
        score: :math:`\partial \log q_\phi(z) / \partial z` with the parameters held fixed, of the shape of z, without a
            graph.
    """

    z: Tensor
    log_q: Tensor
    score: Tensor


class Draw(NamedTuple):
    r"""A value of a distribution with all that its evaluation has found; nothing changes it later.

    Arguments:
        z: The value, `(*sample, *batch, *event)`, drawn or given.
        log_q: :math:`\log q(z)`, `(*sample, *batch)`.
        score: As in `ScoredSample`, where it was asked for.
        regularization: What the flow adds to the loss for this value, `(*sample, *batch)`; `None` for nothing.
        meters: The meters of the solves, which go on through their backward passes.
    """

    z: Tensor
    log_q: Tensor
    score: Tensor | None = None
    regularization: Tensor | None = None
    meters: tuple[WorkMeter, ...] = ()

    @property
    def work(self) -> WorkCount | None:
        """What the solves have cost until now, together; `None` without any."""
        return total_work(self.meters)
