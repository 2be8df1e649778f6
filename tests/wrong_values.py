"""Wrong arguments, generated from right ones, and what became of the calls that were given them."""

from __future__ import annotations

import copy
import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_flows.errors import VAEFlowsError

__all__ = ["ValidCall", "raw_errors", "wrong_values"]

ANYTHING: tuple[Any, ...] = (
    None, "wrong", "", 3, 0, -1, True, False, 1.5, float("nan"), float("inf"), b"bytes", {"a": 1}, {}, [], (),
    ("x", None), [1, 2], np.zeros(3), object(), nn.Linear, nn.Identity(), len, torch.zeros(3), torch.float32,
)  # fmt: skip


@dataclass(frozen=True)
class ValidCall:
    """A call that works, and what is done with what it returns.

    Arguments:
        target: What is called.
        arguments: Its arguments by name.
        use: What a program would do next, where an argument that was taken must not break it.
        leave: Arguments of which only the ones given are tried: they would reach for a network, or take for ever.
    """

    target: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    use: Callable[[Any], object] = lambda result: None
    leave: tuple[str, ...] = ()

    def run(self, **changes: Any) -> Any:
        """Call, with some arguments changed, use the result, and return it."""
        result = self.target(**{**self.arguments, **changes})
        self.use(result)
        return result


def wrong_values(right: Any) -> Iterator[Any]:
    """Yield values of other kinds than a right one, and of its kind with a wrong size, entry, dtype or device."""
    yield from ANYTHING
    if isinstance(right, Tensor):
        yield from _wrong_tensors(right)
    elif isinstance(right, tuple | list) and right:
        kind = type(right) if type(right) in (tuple, list) else tuple
        yield kind(right[:-1])
        yield kind([*right, right[-1]])
        for entry in (None, "x", True, float("nan"), -1, 0, torch.float32):
            yield kind([*right[:-1], entry])
        yield kind(reversed(right))
    elif isinstance(right, Mapping):
        yield {**right, "unknown": 1}
        yield {3: 4}
    if not isinstance(right, type | Tensor | int | float | str | tuple | list | None):
        yield type(right)


def raw_errors(call: ValidCall) -> list[str]:
    """Call with each wrong value of each argument, and list the calls that end in another error than the library's.

    What the caller's own functions and networks raise is theirs: the library calls them, and passes the error on as it
    is. Theirs are those that a row gives, and any callable in the place of a function.
    """
    found = []
    for name in call.arguments:
        if name in call.leave:
            continue
        for value in wrong_values(call.arguments[name]):
            fresh = ValidCall(call.target, {**_copied(call.arguments), name: value}, call.use)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    fresh.run()
                except VAEFlowsError:
                    pass
                except Exception as error:
                    if _is_callers_own(call.arguments[name], value, error):
                        continue
                    found.append(f"{name}={_short(value)}: {type(error).__name__}: {_short(str(error))}")
    return found


def _is_callers_own(right: Any, value: Any, error: Exception) -> bool:
    if inspect.isroutine(right) and callable(value):
        return True
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    library = [place for place, file in enumerate(files) if "vae_flows" in file.parts]
    return bool(library) and any("valid_calls" in file.parts for file in files[library[0] :])


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    # A call must not see what the one before made of a list or a dictionary.
    return {name: copy.copy(value) if isinstance(value, list | dict) else value for name, value in arguments.items()}


def _wrong_tensors(right: Tensor) -> Iterator[Tensor]:
    yield right.flatten()
    yield right.unsqueeze(0)
    yield right[..., :-1] if right.dim() else right.expand(2)
    yield torch.zeros((), dtype=right.dtype)
    yield right[:0] if right.dim() else right.expand(0)
    for dtype in (torch.int64, torch.bool, torch.complex64, torch.float64, torch.float16):
        yield right.to(dtype) if not right.is_complex() else right
    if right.is_floating_point():
        yield torch.full_like(right, float("nan"))
        yield torch.full_like(right, float("inf"))
        yield right * 1e30
    yield right.to("meta")
    yield right.to_sparse() if right.dim() else right


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"Tensor({value.dtype}, {tuple(value.shape)}, {value.device}, {value.layout})"
    text = value if isinstance(value, str) else repr(value)
    return text.splitlines()[0][:140] if text else "''"
