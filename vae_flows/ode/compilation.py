"""Functions of tensors compiled by `torch.compile`, which go on uncompiled, with a warning, where that fails."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from types import FunctionType
from typing import Generic, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils import _pytree

from vae_flows.call_stack import warn

__all__ = ["Compilation", "CompilationWarning", "warn_uncompiled"]

P = ParamSpec("P")
Result = TypeVar("Result")

_MOST_PROGRAMS = 64
"""Of one function. Each takes seconds and megabytes: more of them are a sign that sizes change all the time."""


class CompilationWarning(UserWarning):
    """Evaluations that were to be compiled go on uncompiled, with the same results."""


_numbers = count()
_failed: set[Hashable] = set()
_told: set[str] = set()


def warn_uncompiled(reason: str) -> None:
    """Give the `CompilationWarning`, for each reason once in a process."""
    if reason not in _told:
        _told.add(reason)
        warn(f"ODESolver(compile=True) goes on uncompiled: {reason}.", CompilationWarning)


class Compilation(Generic[P, Result]):
    """The compiled programs of a function, one for each structure of its arguments, kept as long as the process.

    A program is made of the first arguments of its structure. Where later ones differ in a size, it is made once more
    for all values of that size.

    Arguments:
        function: A function of a module without side effects, of tensors in named tuples.
    """

    def __init__(self, function: Callable[P, Result]) -> None:
        self._function = cast(FunctionType, function)
        self._programs: dict[Hashable, Callable[P, Result]] = {}

    def __call__(self, structure: Hashable, device: torch.device, *args: P.args, **kwargs: P.kwargs) -> Result | None:
        """Return what the function returns, or `None` where that cannot be had from a compiled program.

        Arguments:
            structure: What a program cannot take as variable; programs of other structures do not count here.
            device: Where the tensors are. On CUDA, programs are captured as graphs.
            args: Arguments of the function.
            kwargs: Likewise.
        """
        if structure in _failed:
            return None
        try:
            with torch.no_grad():
                return self._run(structure, device, *args, **kwargs)
        except Exception as error:  # of any kind: compilers and what they compile fail in many ways
            _failed.add(structure)
            warn_uncompiled(f"torch.compile failed with {type(error).__name__}: {_shortened(str(error))}")
            return None

    def _run(self, structure: Hashable, device: torch.device, *args: P.args, **kwargs: P.kwargs) -> Result:
        captured = device.type == "cuda"
        if structure not in self._programs:
            self._programs[structure] = self._make(captured)
        if not captured:
            return self._programs[structure](*args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        # The next replay of a graph overwrites its results.
        return _pytree.tree_map_only(Tensor, torch.clone, self._programs[structure](*args, **kwargs))

    def _make(self, captured: bool) -> Callable[P, Result]:
        if len(self._programs) == _MOST_PROGRAMS:
            raise RuntimeError(f"{_MOST_PROGRAMS} programs of other sizes are kept already")
        function, code = self._function, self._function.__code__
        # torch.compile keeps programs, and what it has learned of variable sizes, by the place and name of the code.
        own = FunctionType(code.replace(co_name=f"{code.co_name}_{next(_numbers)}"), function.__globals__)
        validate = Distribution._validate_args
        try:
            return torch.compile(own, fullgraph=True, mode="reduce-overhead" if captured else None)
        finally:
            Distribution.set_default_validate_args(validate)  # which torch.compile turns off for good


def _shortened(text: str) -> str:
    return " ".join(text.split())[:200]
