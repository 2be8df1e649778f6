r"""The score :math:`s(t) = \partial \log q_t(z(t)) / \partial z`, parameters held fixed, carried along a solve.

It obeys :math:`ds/dt = -J^\top s - \nabla_z \operatorname{tr} J`, whose right-hand side is one pull-back through the
evaluation of the field: with cotangent s of the value and 1 of the trace (Vaitl, Nicoli, Nakajima & Kessel 2022,
"Path-gradient estimators for continuous normalizing flows", theorem 4.1). Path gradients of an evidence lower bound
need it, and need no inverse solve then.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_flows.ode.fields import AugmentedField, TapedField, Time
from vae_flows.ode.tapes import as_taped

__all__ = ["ScoredField"]


class ScoredField(TapedField):
    """A field of latents and their scores, `(…, 2 D)`, of which the solver keeps both to its tolerance.

    Scores are constants to automatic differentiation.

    Arguments:
        field: The field of the latents.
    """

    def __init__(self, field: AugmentedField) -> None:
        self._field = as_taped(field)
        self.has_pull_back = field.has_pull_back
        self.num_integrals = field.num_integrals

    def tensors(self) -> Sequence[Tensor]:
        return self._field.tensors()

    def compiled(self) -> AugmentedField:
        return ScoredField(self._field.compiled())

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            (rates, integrals), _ = self.record(t, z.detach())
        if not torch.is_grad_enabled():
            return rates, integrals
        latents, _ = z.chunk(2, -1)
        value, integrals = self._field.evaluate(t, latents)
        return torch.cat([value, rates.chunk(2, -1)[1]], -1), integrals

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        latents, score = z.chunk(2, -1)
        (value, integrals), tape = self._field.record(t, latents)
        of_trace = torch.zeros_like(integrals)
        of_trace[..., 0] = 1
        pulled = self._field.pull_back(tape, score, of_trace, of_tensors=False)
        return (torch.cat([value, -pulled], -1), integrals), tape

    def pull_back(self, tape: object, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        of_latents = self._field.pull_back(tape, value.chunk(2, -1)[0], integrals, of_tensors=of_tensors)
        return torch.cat([of_latents, torch.zeros_like(of_latents)], -1)

    def check_tape(self, tape: object) -> None:
        self._field.check_tape(tape)

    def collect(self) -> list[Tensor]:
        return self._field.collect()
