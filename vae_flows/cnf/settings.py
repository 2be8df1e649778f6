"""Settings of flows that may be changed after the flow was made, and are checked whenever they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from torch import nn

from vae_flows.cnf.divergence import Divergence
from vae_flows.cnf.regularization import Regularizer
from vae_flows.ode.solver import ODESolver

__all__ = ["Setting", "SharedSettings"]

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """An attribute of a module that is checked, and turned into what it means, whenever it is assigned.

    Arguments:
        check: Returns the value to keep, given the module, words for what is set and the value.
    """

    def __init__(self, check: Callable[[Any, str, Any], Value]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> Setting[Value]: ...
    @overload
    def __get__(self, module: nn.Module, owner: type) -> Value: ...
    def __get__(self, module: nn.Module | None, owner: type) -> Setting[Value] | Value:
        if module is None:
            return self
        try:
            return module.__dict__[self.name]
        except KeyError:
            raise AttributeError(self.name) from None

    def __set__(self, module: nn.Module, value: Any) -> None:
        module.__dict__[self.name] = self.check(module, f"{type(module).__name__} {self.name}", value)


class _SharedSetting(Generic[Value]):
    """A setting that is read from the first of a module's continuous flows, and assigned to all."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> _SharedSetting[Value]: ...
    @overload
    def __get__(self, module: SharedSettings, owner: type) -> Value: ...
    def __get__(self, module: SharedSettings | None, owner: type) -> _SharedSetting[Value] | Value:
        return self if module is None else getattr(module.continuous_flows[0], self.name)

    def __set__(self, module: SharedSettings, value: Any) -> None:
        for flow in module.continuous_flows:
            setattr(flow, self.name, value)


class SharedSettings:
    """What modules made of continuous flows have: settings that all of these flows share."""

    solver = _SharedSetting[ODESolver]()
    eval_solver = _SharedSetting[ODESolver]()
    divergence = _SharedSetting[Divergence]()
    eval_divergence = _SharedSetting[Divergence]()
    regularizers = _SharedSetting[tuple[Regularizer, ...]]()
    integration_time = _SharedSetting[float]()
    end_time_jitter = _SharedSetting[float]()

    @property
    def continuous_flows(self) -> Sequence[nn.Module]:
        """The flows, one or more."""
        raise NotImplementedError
