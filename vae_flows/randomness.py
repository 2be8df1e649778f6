"""Random numbers that depend on nothing but a key, so that a result can be had again and a run can be continued."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["derive_seed", "seeded"]


def derive_seed(*key: int | str) -> int:
    """Turn a key, such as (seed, epoch, "order"), into a 64-bit seed; different keys give unrelated seeds.

    Raises:
        InvalidInputError: A number is negative.

    Example:
        >>> derive_seed(0, 1, "order") == derive_seed(0, 1, "order")
        True
        >>> derive_seed(0, 1, "order") == derive_seed(0, 2, "order")
        False
    """
    for part in key:
        if isinstance(part, int) and part < 0:
            raise InvalidInputError(complaint("seed", "an integer of at least 0", part))
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big")


@contextmanager
def seeded(device: torch.device, *key: int | str) -> Iterator[torch.Generator]:
    """Run a block on random numbers that depend only on `key`; the caller's global generators come back as they were.

    Arguments:
        device: The device whose global generator the block uses, beside the CPU's.
        key: What the random numbers depend on.

    Yields:
        A generator on `device`, independent of the global ones.

    Example:
        >>> with seeded(torch.device("cpu"), 0, "noise"):
        ...     first = torch.randn(3)
        >>> with seeded(torch.device("cpu"), 0, "noise"):
        ...     print(bool((torch.randn(3) == first).all()))
        True
    """
    seed = derive_seed(*key)
    forked: dict[str, Any] = {"devices": [device.index or 0], "device_type": device.type}
    with torch.random.fork_rng(**({"devices": []} if device.type == "cpu" else forked)):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":  # its own generator: torch.cuda.manual_seed takes that of the current device
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        yield torch.Generator(device).manual_seed(derive_seed(*key, "generator"))
