r"""End times that are tensors: learned ones, and one for each example.

In the time :math:`s = t / T` every solve runs from 0 to 1, along :math:`T f(s T, z)`. There T is a tensor of the
dynamics like any other, which may differ between examples and has gradients of all orders. A backward pass written by
hand knows nothing of T; for it the end is moved along the field by T − T₀, T₀ being the value of T: by nothing, but for
dT. The derivative of a solve in its end time is the field there, so that one evaluation serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_flows.ode.fields import AugmentedField, Time
from vae_flows.ode.tapes import SECOND_DERIVATIVES
from vae_flows.ode.work_counts import WorkMeter
from vae_flows.tensors.derivatives import first_order_only

__all__ = ["RescaledField", "moved_end"]


class RescaledField(AugmentedField):
    """A field in the time s = t / T.

    Arguments:
        field: The field in the time t.
        end_time: T, a scalar or `(…, 1)` for latents `(…, D)`.
    """

    def __init__(self, field: AugmentedField, end_time: Tensor) -> None:
        self._field = field
        self._end_time = end_time
        self.num_integrals = field.num_integrals

    def tensors(self) -> Sequence[Tensor]:
        return [*self._field.tensors(), self._end_time]

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        value, integrals = self._field.evaluate(t * self._end_time, z)
        return self._end_time * value, self._end_time * integrals


def moved_end(
    field: AugmentedField, end_time: Tensor, values: Tensor, integrals: Tensor, direction: float, meter: WorkMeter
) -> tuple[Tensor, Tensor]:
    """Return the state at T, the same numbers, with the gradient in T; `direction` is −1 for a state to start from."""
    at = end_time.detach()
    meter.forward_evaluations += 1
    with torch.no_grad():
        rates = field.evaluate(float(at), values)
    step = direction * (end_time - at).to(values.dtype)
    values, integrals, step = first_order_only(SECOND_DERIVATIVES, values, integrals, step)
    return values + step * rates[0], integrals + step * rates[1]
