"""The entries of a run's checkpoint, each checked by type and value before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.weights import kind_of
from vae_flows.training.records import EpochRecord

__all__ = ["checked_history", "checked_mapping", "checked_optimizer", "checked_precision", "require_entry"]


def require_entry(holds: bool, entry: str, path: Path, expected: str, value: object) -> None:
    """Check an entry of a checkpoint.

    Raises:
        CheckpointError: The condition does not hold; the message names file, entry, what was expected and the value.
    """
    if not holds:
        raise CheckpointError(complaint(f"{entry} of checkpoint {path}", expected, kind_of(value)))


def checked_mapping(value: object, entry: str, path: Path, *names: str) -> dict[str, Any]:
    """Return an entry that is a dictionary of named values, the given ones among them."""
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    require_entry(named, entry, path, "values by name", value)
    mapping = cast(dict[str, Any], value)
    for name in names:
        require_entry(name in mapping, entry, path, f"an entry {name}", sorted(mapping))
    return mapping


def checked_history(value: object, path: Path) -> tuple[EpochRecord, ...]:
    """Return the records of a run, one or more, with epochs that count from 1."""
    require_entry(isinstance(value, list) and bool(value), "history", path, "a list of epochs", value)
    return tuple(_checked_record(record, epoch, path) for epoch, record in enumerate(cast(list[Any], value), 1))


def _checked_record(value: object, epoch: int, path: Path) -> EpochRecord:
    entry = f"epoch {epoch} in the history"
    names = [field.name for field in fields(EpochRecord)]
    record = checked_mapping(value, entry, path, *names)
    require_entry(len(record) == len(names), entry, path, f"the entries {', '.join(names)}", sorted(record))
    for name, number in record.items():
        whole = name in ("epoch", "forward_evaluations")
        optional = name in ("evaluations_per_solve", "forward_evaluations")
        kind = isinstance(number, int if whole else int | float) and not isinstance(number, bool)
        expected = ("an integer" if whole else "a finite number") + (" or None" if optional else "")
        fits = (optional and number is None) or (kind and math.isfinite(number))
        require_entry(fits, f"{name} of {entry}", path, expected, number)
    require_entry(record["epoch"] == epoch, f"epoch of {entry}", path, str(epoch), record["epoch"])
    return EpochRecord(**record)


def checked_optimizer(value: object, optimizer: Optimizer, path: Path) -> dict[str, Any]:
    """Return the state of an optimiser, whose options are those that it was made with.

    Arguments:
        value: What `Optimizer.state_dict` returned, completed by an empty state of each parameter that had none.
        optimizer: An optimiser of the same parameters.
        path: The checkpoint.
    """
    stored = checked_mapping(value, "optimizer", path, "state", "param_groups")
    own = optimizer.state_dict()["param_groups"]
    groups = stored["param_groups"]
    require_entry(isinstance(groups, list) and len(groups) == len(own), "param_groups", path, str(own), groups)
    for group, options in zip(groups, own, strict=True):
        group = checked_mapping(group, "param_groups", path, "params", "lr", "betas", "eps")
        for name in options.keys() & group.keys():  # other versions of torch have other options beside
            same = not isinstance(group[name], Tensor | bool) or group[name] is options[name]
            require_entry(
                same and group[name] == options[name], f"{name} of param_groups", path, repr(options[name]), group[name]
            )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = stored["state"]
    numbers = isinstance(states, dict) and set(states) == set(range(len(parameters)))
    require_entry(numbers, "state of the optimizer", path, f"the state of {len(parameters)} parameters", states)
    for number, parameter in enumerate(parameters):
        _check_moments(states[number], parameter, f"state {number} of the optimizer", path)
    return {"state": states, "param_groups": own}


def _check_moments(value: object, parameter: Tensor, entry: str, path: Path) -> None:
    if value == {}:  # no gradient has come to this parameter yet
        return
    moments = checked_mapping(value, entry, path, "step", "exp_avg", "exp_inf")
    for name, moment in moments.items():
        shape = () if name == "step" else tuple(parameter.shape)
        kinds = (torch.float32, torch.float64) if name == "step" else (parameter.dtype,)
        expected = f"a finite {kinds[0]} tensor of shape {shape}"
        tensor = isinstance(moment, Tensor) and moment.layout == torch.strided and not moment.is_meta
        fits = tensor and tuple(moment.shape) == shape and moment.dtype in kinds and bool(moment.isfinite().all())
        require_entry(fits, f"{name} in {entry}", path, expected, moment)
    step = moments["step"].item()
    require_entry(step >= 1 and step == int(step), f"step in {entry}", path, "the number of steps taken", step)
    require_entry(bool((moments["exp_inf"] >= 0).all()), f"exp_inf in {entry}", path, "no negative value", "some")


def checked_precision(value: object, own: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the state of the scaling of losses, which 16-bit precision has, with the entries of `own`."""
    stored = checked_mapping(value, "precision", path, *own)
    for name, number in stored.items():
        known = name in own and type(number) is type(own[name])
        fits = known and isinstance(number, int | float) and math.isfinite(number) and number >= 0
        require_entry(fits, f"{name} of the precision", path, f"a number like {own.get(name)!r}", number)
    return stored
