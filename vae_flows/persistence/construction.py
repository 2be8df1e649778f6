"""A limit on how much a description may build."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from vae_flows.errors import VAEFlowsError

__all__ = ["ConstructionTooLargeError", "bounded_construction"]


class ConstructionTooLargeError(VAEFlowsError):
    """More parameters and modules were about to be made than allowed."""


@contextmanager
def bounded_construction(most: int) -> Iterator[None]:
    """Stop this thread when it makes more than so many parameters and modules within the block.

    Raises:
        ConstructionTooLargeError: The block makes more.

    Example:
        >>> from torch import nn
        >>> with bounded_construction(10):
        ...     nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**12)))
        Traceback (most recent call last):
        vae_flows.persistence.construction.ConstructionTooLargeError: more than 10 parameters and modules
    """
    thread, count = threading.get_ident(), 0

    def counted(*_: object) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > most:
            raise ConstructionTooLargeError(f"more than {most} parameters and modules")

    hooks = [register_module_parameter_registration_hook(counted), register_module_module_registration_hook(counted)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
