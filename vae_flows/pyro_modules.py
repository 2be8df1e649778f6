"""Registering modules with Pyro's parameter store, without the silent clash of two models under one name."""

from __future__ import annotations

import pyro
from torch import nn

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["register_module"]


def register_module(name: str, module: nn.Module) -> None:
    """Make the parameters of `module` known to Pyro as `name$$$…`.

    Raises:
        InvalidInputError: The parameter store holds another module's parameters under that name. Pyro would train those
            and leave the module's own alone, silently.
    """
    pyro.module(name, module)
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        full = f"{name}$$${key}"
        if full in store and store[full] is not parameter:
            raise InvalidInputError(
                complaint(
                    f"Pyro's parameter store entry {full!r}",
                    "this module's parameter",
                    "that of a module made earlier",
                    "Call pyro.clear_param_store() before training another model, or give it another name.",
                )
            )
        return
