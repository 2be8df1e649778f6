"""How many threads PyTorch works in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vae_flows.errors import require_positive

__all__ = ["torch_threads"]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch work in `count` threads, and in as many as before afterwards.

    Raises:
        InvalidInputError: The count is not a positive integer.
    """
    require_positive("PyTorch", threads=count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
