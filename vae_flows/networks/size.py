"""How large a network is, and the refusal of one that is larger than anyone meant it to be."""

from __future__ import annotations

from torch import nn

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_positive

__all__ = ["LARGE_MODEL", "check_parameter_count", "count_parameters"]

LARGE_MODEL = 50_000_000
"""A model of more parameters is built only on demand: ten times the benchmark's, 0.8 GB while Adam trains it."""

BYTES_IN_TRAINING = 16  # 32 bits each for weight, gradient and the two moments of Adam or Adamax
PARTS_NAMED = 3


@checked
def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns; parameters that parts share count once.

    Example:
        >>> count_parameters(nn.Linear(10, 3))
        33
    """
    return sum(parameter.numel() for parameter in module.parameters())


@checked
def check_parameter_count(
    module: nn.Module, max_parameters: int = LARGE_MODEL, setting: str = "max_parameters"
) -> None:
    """Check that a module has no more parameters than was meant; on the meta device that takes no memory.

    Arguments:
        module: A model, or a part of one.
        max_parameters: The most that it may have.
        setting: What the caller calls `max_parameters`, for the message.

    Raises:
        InvalidInputError: It has more; the message names the largest parts, what they cost, and what to do.

    Example:
        >>> check_parameter_count(nn.Linear(1000, 1000), max_parameters=10_000)
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: parameters of Linear: expected at most 10,000, got 1,001,000, \
of which weight (1,000 × 1,000) holds 1,000,000; training takes 0.02 GB for them alone. Take a smaller or \
convolutional network, smaller pictures, or a likelihood with fewer parameters for each value, or allow it: \
max_parameters=1001000.
    """
    require_positive("check_parameter_count", max_parameters=max_parameters)
    count = count_parameters(module)
    if count <= max_parameters:
        return
    largest = sorted(module.named_parameters(), key=lambda named: -named[1].numel())[:PARTS_NAMED]
    parts = ", ".join(
        f"{name} ({' × '.join(f'{size:,}' for size in parameter.shape)}) holds {parameter.numel():,}"
        for name, parameter in largest
        if 10 * parameter.numel() > count
    )
    named = f", of which {parts}" if parts else ""
    raise InvalidInputError(
        complaint(
            f"parameters of {type(module).__name__}",
            f"at most {max_parameters:,}",
            f"{count:,}{named}; training takes {count * BYTES_IN_TRAINING / 1e9:.2f} GB for them alone",
            "Take a smaller or convolutional network, smaller pictures, or a likelihood with fewer parameters for each "
            f"value, or allow it: {setting}={count}.",
        )
    )
