r"""Linear layers that depend on time, and the per-example updates that a context gives them.

| name | layer at time t | source |
|---|---|---|
| `ignore` | :math:`W x + c` | |
| `concat` | :math:`W x + c + w t`: t is one more input | Grathwohl et al. 2019 |
| `squash` | :math:`(W x + c) \circ \sigma(g t + g_0)` | the published FFJORD code |
| `concat_squash` | :math:`(W x + c) \circ \sigma(g t + g_0) + w t` | Grathwohl et al. 2019, appendix |
| `blend` | :math:`(1 - t) (W_0 x + c_0) + t (W_1 x + c_1)` | the published FFJORD code |
| `hyper` | :math:`(W + t W') x + c + t c'`: weights from an affine hypernetwork of t | Ha et al. 2017 |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Size, Tensor, nn

from vae_flows.cnf.layer_terms import Layer
from vae_flows.errors import unknown_name
from vae_flows.ode.fields import Time
from vae_flows.tensors.subclasses import plain

__all__ = ["LayerUpdate", "TimeConditioning", "TimeLinear", "make_layer"]

TimeConditioning = Literal["ignore", "concat", "squash", "concat_squash", "blend", "hyper"]


class LayerUpdate(NamedTuple):
    """Amortised parameters of one layer, added to the shared ones.

    Arguments:
        bias: Shift, `(*batch, out)`.
        left: U of a low-rank update U V of the weight, `(*batch, in, r)`.
        right: V, `(*batch, r, out)`.
        dense: Update of the whole weight, `(*batch, in, out)`.
        time_weight: Shift for each unit of time, `(*batch, out)`.
    """

    bias: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    dense: Tensor | None = None
    time_weight: Tensor | None = None

    @property
    def keeps_weight(self) -> bool:
        """Whether the weight stays the shared one."""
        return self.left is None and self.right is None and self.dense is None

    def tensors(self) -> list[Tensor]:
        """Return those parameters that there are."""
        return [tensor for tensor in self if tensor is not None]

    def plain(self) -> LayerUpdate:
        """Return the parameters without the classes by which others track them."""
        return LayerUpdate(*(None if tensor is None else plain(tensor) for tensor in self))

    def flatten(self, own: Size, batch: Size) -> LayerUpdate:
        """Merge the batch dimensions, of shape `own` and broadcast to `batch`, into one."""

        def merge(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            event = tensor.shape[len(own) :]
            return tensor.expand(batch + event).reshape((math.prod(batch), *event))

        return LayerUpdate(*(merge(tensor) for tensor in self))


class TimeLinear(nn.Linear):
    """The base of the layers, and the one that ignores time: x, t -> W x + c.

    Arguments:
        in_features: Size of x.
        out_features: Size of the result.
    """

    depends_on_time_in_weight = False
    """Whether W changes along a solve; what is constant is prepared once."""

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        """Return the weight `(out, in)` and the shift `(out,)` at time t."""
        del t
        return self.weight, self.bias

    def shift_rate(self) -> Tensor | None:
        """Return how fast the shift changes, `(out,)`, where the weight is constant; `None` for not at all."""
        return None

    def constant(self, update: LayerUpdate) -> Layer:
        """Return the layer with an update, for a whole solve; only where the weight is constant."""
        rate = self.shift_rate()
        return self._updated(self.weight, self.bias, None if rate is None else rate.view(1, 1, -1), update)

    def frozen(self, t: Time, update: LayerUpdate) -> Layer:
        """Return the layer with an update as it is at time t."""
        weight, shift = self.at(t)
        if update.time_weight is not None:
            shift = shift + t * update.time_weight
        return self._updated(weight, shift, None, update._replace(time_weight=None))

    def _updated(self, weight: Tensor, shift: Tensor, rate: Tensor | None, update: LayerUpdate) -> Layer:
        shift = shift.view(1, 1, -1) if shift.dim() == 1 else shift.unsqueeze(1)
        if update.bias is not None:
            shift = shift + update.bias.unsqueeze(1)
        if update.time_weight is not None:
            of_update = update.time_weight.unsqueeze(1)
            rate = of_update if rate is None else rate + of_update
        return Layer(weight, shift, rate, update.left, update.right, update.dense)


class _Concat(TimeLinear):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        bound = 1 / math.sqrt(in_features + 1)
        self.time_weight = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        return self.weight, self.bias + t * self.time_weight

    def shift_rate(self) -> Tensor:
        return self.time_weight


class _Squash(TimeLinear):
    depends_on_time_in_weight = True

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.gate = nn.Linear(1, out_features)

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        gain = torch.sigmoid(self.gate.weight[:, 0] * t + self.gate.bias)
        return self.weight * gain.unsqueeze(1), self.bias * gain


class _ConcatSquash(_Squash):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.time_weight = nn.Parameter(torch.empty(out_features).uniform_(-1, 1))

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        weight, shift = super().at(t)
        return weight, shift + t * self.time_weight


class _Blend(TimeLinear):
    depends_on_time_in_weight = True

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.end = nn.Linear(in_features, out_features)

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        return self.weight + t * (self.end.weight - self.weight), self.bias + t * (self.end.bias - self.bias)


class _Hyper(TimeLinear):
    depends_on_time_in_weight = True

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.rate = nn.Linear(in_features, out_features)

    def at(self, t: Time) -> tuple[Tensor, Tensor]:
        return self.weight + t * self.rate.weight, self.bias + t * self.rate.bias


_LAYERS: Mapping[str, Callable[[int, int], TimeLinear]] = {
    "ignore": TimeLinear,
    "concat": _Concat,
    "squash": _Squash,
    "concat_squash": _ConcatSquash,
    "blend": _Blend,
    "hyper": _Hyper,
}


def make_layer(time_conditioning: str, in_features: int, out_features: int) -> TimeLinear:
    """Return a layer with the time conditioning called `time_conditioning`.

    Raises:
        UnknownNameError: There is none of that name.

    Example:
        >>> weight, shift = make_layer("blend", 3, 2).at(0.5)
        >>> weight.shape, shift.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """
    if time_conditioning not in _LAYERS:
        raise unknown_name("time conditioning", time_conditioning, get_args(TimeConditioning))
    return _LAYERS[time_conditioning](in_features, out_features)
