"""The order in which the values of a tensor lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_flows.tensors.known_values import functorch_is_active

__all__ = ["order_is_free"]


def order_is_free(x: Tensor) -> bool:
    """Return whether an order may be chosen for a tensor by what is fastest on a processor.

    Transformed functions have no other order than the usual one, and refuse to tell it; a compiled program is to run
    anywhere.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> order_is_free(x), order_is_free(x.to("meta"))
        (True, False)
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not functorch_is_active()
