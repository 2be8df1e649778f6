"""The record of one evaluation of a transform."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vae_flows.ode.work_counts import WorkCount, WorkMeter, total_work

__all__ = ["Evaluation"]


class Evaluation(NamedTuple):
    r"""All that one evaluation of :math:`y = T(x)` has found, in either direction; nothing changes it later.

    Arguments:
        x: `(*sample, *batch, D)`, as it was given, or found.
        y: Its image, likewise.
        log_det: :math:`\log|\det \partial y/\partial x|` at x, `(*sample, *batch)`.
        score: The score of y, where that of x was carried along; without a graph.
        regularization: What the evaluation adds to the loss, `(*sample, *batch)`; `None` for nothing.
        meters: The meters of its solves, which go on through their backward passes.
    """

    x: Tensor
    y: Tensor
    log_det: Tensor
    score: Tensor | None = None
    regularization: Tensor | None = None
    meters: tuple[WorkMeter, ...] = ()

    @property
    def work(self) -> WorkCount | None:
        """What the solves have cost until now, together; `None` without any."""
        return total_work(self.meters)

    def inverted(self) -> Evaluation:
        """Return the same evaluation as one of the inverse transform."""
        return Evaluation(self.y, self.x, -self.log_det, None, self.regularization, self.meters)
