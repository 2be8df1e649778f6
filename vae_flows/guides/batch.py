"""The batch that a guide sees: the encoder's inputs, their rows in a plate, and the contexts made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from vae_flows.checks import require_takes
from vae_flows.errors import InvalidInputError, complaint

__all__ = ["EncoderInputs", "check_contexts", "encode", "encoder_inputs_of", "made_plate"]

EncoderInputs = Callable[..., Tensor | Sequence[Tensor]]


def encoder_inputs_of(
    owner: str, select: EncoderInputs | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, ...]:
    """Return the tensors to encode, each `(rows, …)`, given the model's arguments.

    Arguments:
        owner: Whom an error names.
        select: Picks them from the model's arguments; the first positional one by default.
        args: The model's positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        InvalidInputError: They are no tensors of equally many rows, at least one.
    """
    chosen = select(*args, **kwargs) if select is not None else args[:1]
    inputs = (chosen,) if isinstance(chosen, Tensor) else tuple(chosen)
    rows = {len(value) if isinstance(value, Tensor) and value.dim() else 0 for value in inputs}
    if len(rows) != 1 or 0 in rows:
        got = ", ".join(f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in inputs)
        raise InvalidInputError(
            complaint(
                f"{owner} encoder inputs",
                "tensors of equally many rows, at least one, as Pyro has no plates of size 0",
                got or "no positional argument",
                "They are the model's first positional argument, or what encoder_inputs=lambda *args, **kwargs: … "
                "picks of its arguments.",
            )
        )
    return inputs


def made_plate(owner: str, make: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> pyro.plate:
    """Return the plate that a user's callable makes of a model's arguments.

    Raises:
        InvalidInputError: It does not take them, or returns something else.
    """
    expected = f"a callable that takes the arguments of {owner} and returns a pyro.plate"
    require_takes(f"{owner} plate", expected, make, *args, **kwargs)
    plate = make(*args, **kwargs)
    if not isinstance(plate, pyro.plate):
        raise InvalidInputError(complaint(f"{owner} plate", expected, f"one that returns {type(plate).__name__}"))
    return plate


def encode(
    owner: str, encoder: nn.Module, inputs: Sequence[Tensor], plate: pyro.plate, context_dim: int | None
) -> Tensor:
    """Encode the rows that a plate holds; the encoder sees no others.

    Arguments:
        owner: Whom an error names.
        encoder: Maps inputs `(rows, …)` to contexts `(rows, context_dim)`.
        inputs: Tensors with a row for each index of the full plate, or for each one of its subsample.
        plate: The plate, entered, so that its dimension is known.
        context_dim: What the flows need, `None` where they do not tell.

    Returns:
        Contexts `(rows, 1, …, 1, context_dim)` with the rows at the plate's dimension.

    Raises:
        InvalidInputError: Rows that are neither, or contexts of another shape.
    """
    rows, size, dim = len(inputs[0]), plate.subsample_size, plate.dim or -1
    if rows not in (size, plate.size):
        raise InvalidInputError(
            complaint(
                f"{owner} plate {plate.name!r}",
                f"size or subsample size {rows}, the rows of the encoder's input of shape {tuple(inputs[0].shape)}",
                f"size {plate.size}, subsample size {size}",
                "In an AutoGuideList, which keeps the sizes of its first call, give "
                "create_plates=lambda x: pyro.plate(name, len(x), dim=-1).",
            )
        )
    if rows != size:
        inputs = [value[torch.as_tensor(plate.indices, device=value.device)] for value in inputs]
    context = encoder(*inputs)
    context_dim = check_contexts(owner, context, inputs, context_dim)
    return context.reshape(size, *(1,) * (-dim - 1), context_dim)


def check_contexts(owner: str, context: Any, inputs: Sequence[Tensor], context_dim: int | None) -> int:
    """Check what an encoder has made of `inputs`, and return the size of a context.

    Raises:
        InvalidInputError: It is no tensor with a row for each row of the inputs, of size `context_dim` where given.
    """
    rows, wanted = len(inputs[0]), "context_dim" if context_dim is None else context_dim
    shape = tuple(context.shape) if isinstance(context, Tensor) else None
    if shape is None or len(shape) != 2 or shape[0] != rows or context_dim not in (None, shape[1]):
        raise InvalidInputError(
            complaint(
                f"{owner} encoder",
                f"contexts of shape ({rows}, {wanted})",
                type(context).__name__ if shape is None else f"shape {shape}",
                f"Its inputs have shape {', '.join(str(tuple(value.shape)) for value in inputs)}; context_dim is the "
                "size of what it returns for each row.",
            )
        )
    return shape[1]
