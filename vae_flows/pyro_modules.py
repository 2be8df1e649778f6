"""Modules in Pyro's parameter store: registered without silent clashes, and loaded without unrestricted unpickling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyro
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule
from torch import nn
from torch.distributions import constraints as torch_constraints

from vae_flows.checks import checked
from vae_flows.errors import CheckpointError, InvalidInputError, complaint
from vae_flows.persistence.weights import read_torch_file

__all__ = ["load_param_store", "register_module", "registered"]


@checked
def load_param_store(path: Path | str, map_location: str | torch.device = "cpu") -> None:
    """Load what `pyro.get_param_store().save(path)` wrote, without running code that the file may hold.

    Pyro's own `load` unpickles without restriction; here only tensors and the constraints of PyTorch and Pyro are read.
    Parameters that the store has already take over the values in place, and with them the modules that they belong to:
    run model and guide once before loading, and there is nothing else to do. The others are added to the store, as by
    Pyro's `load`.

    A model's or guide's parameters in the store are those of its modules, so that saving the modules, by `state_dict()`
    or `save_pretrained`, saves the same. The `load` of Pyro's optimisers is unrestricted as well;
    `optimizer.set_state(torch.load(path, weights_only=True))` reads what their `save` wrote.

    Arguments:
        path: The file.
        map_location: The device of parameters that are added.

    Raises:
        CheckpointError: There is no such file, it is damaged or something else, or a parameter has another shape or
            constraint than in the store, which is then as it was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "parameters"
        >>> with pyro.get_param_store().scope():
        ...     scale = pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        ...     pyro.get_param_store().save(path)
        >>> with pyro.get_param_store().scope():
        ...     load_param_store(path)
        ...     pyro.param("scale").item()
        2.0
    """
    with torch.serialization.safe_globals([*_constraint_classes()]):
        loaded = read_torch_file(Path(path), map_location)
    if not isinstance(loaded, dict) or loaded.keys() != {"params", "constraints"}:
        raise CheckpointError(complaint(f"checkpoint {path}", "a parameter store saved by Pyro", "something else"))
    store = pyro.get_param_store()
    present, others = store.get_state(), {}
    for name, value in loaded["params"].items():
        if name not in present["params"]:
            others[name] = value
            continue
        got = f"{loaded['constraints'][name]} of shape {tuple(value.shape)}"
        expected = f"{present['constraints'][name]} of shape {tuple(present['params'][name].shape)}"
        if got != expected:
            raise CheckpointError(complaint(f"parameter {name!r} in {path}", expected, got))
    with torch.no_grad():
        for name in loaded["params"].keys() - others.keys():
            present["params"][name].copy_(loaded["params"][name])
    store.set_state({"params": others, "constraints": {name: loaded["constraints"][name] for name in others}})


@checked
def register_module(name: str, module: nn.Module) -> None:
    """Make the parameters of `module` known to Pyro as `name$$$…`.

    Raises:
        InvalidInputError: The parameter store holds another module's parameters under that name. Pyro would train those
            and leave the module's own alone, silently.
    """
    pyro.module(name, module)
    _check_store(name, module)


@checked
def registered(owner: PyroModule, name: str) -> nn.Module:
    """Return the submodule `name` of a `PyroModule`, whose parameters Pyro knows by then.

    Raises:
        InvalidInputError: The parameter store holds another module's parameters under its name.
    """
    module = getattr(owner, name)  # by which PyroModule registers it
    if not pyro.settings.get("module_local_params"):
        _check_store(owner._pyro_get_fullname(name), module)
    return module


def _check_store(name: str, module: nn.Module) -> None:
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        full = f"{name}$$${key}"
        if full in store and store[full] is not parameter:
            raise InvalidInputError(
                complaint(
                    f"Pyro's parameter store entry {full!r}",
                    "this module's parameter",
                    "that of a module made earlier, or loaded",
                    "Call pyro.clear_param_store() before training another model, or give it another name; or take the "
                    f"stored values with pyro.module({name!r}, module, update_module_params=True).",
                )
            )
        return


def _constraint_classes() -> Iterator[type]:
    for entry in (vars(torch_constraints) | vars(constraints)).values():
        if isinstance(entry, type) and issubclass(entry, torch_constraints.Constraint):
            yield entry
