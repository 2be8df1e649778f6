"""The entries of a run's checkpoint, each checked by type and value before anything is made of it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.weights import kind_of
from vae_flows.training.optimizers import states_of_a_parameter
from vae_flows.training.records import EpochRecord

__all__ = [
    "checked_average",
    "checked_history",
    "checked_mapping",
    "checked_optimizer",
    "checked_precision",
    "require_entry",
]

MAIN_OPTIONS = frozenset({"betas", "eps", "momentum", "weight_decay"})
"""Options that no version of torch leaves out of an optimiser's state, where the optimiser has them."""
NOT_NEGATIVE = frozenset({"acc_delta", "col_var", "exp_avg_sq", "exp_inf", "max_exp_avg_sq", "row_var", "square_avg",
                          "step_size", "sum", "variance"})  # fmt: skip
"""Means and greatest values of squares or sizes, by the names that torch gives them."""


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
    needed = [field.name for field in fields(EpochRecord) if field.default is MISSING]
    record = checked_mapping(value, entry, path, *needed)
    require_entry(record.keys() <= set(names), entry, path, f"the entries {', '.join(names)}", sorted(record))
    for name, number in record.items():
        whole = name in ("epoch", "forward_evaluations")
        optional = name not in needed or name in ("evaluations_per_solve", "forward_evaluations")
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
    options = inspect.signature(type(optimizer)).parameters  # what torch adds beside differs between its versions
    for group, mine in zip(groups, own, strict=True):
        group = checked_mapping(group, "param_groups", path, "params", "lr", *MAIN_OPTIONS.intersection(options, mine))
        for name in mine.keys() & group.keys():
            same = not isinstance(group[name], Tensor | bool) or group[name] is mine[name]
            require_entry(
                same and group[name] == mine[name], f"{name} of param_groups", path, repr(mine[name]), group[name]
            )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = stored["state"]
    numbers = isinstance(states, dict) and set(states) == set(range(len(parameters)))
    require_entry(numbers, "state of the optimizer", path, f"the state of {len(parameters)} parameters", states)
    for number, parameter in enumerate(parameters):
        before, after = states_of_a_parameter(optimizer, parameter)
        _check_state(states[number], before, after, f"state {number}", path)
    return {"state": states, "param_groups": own}


def _check_state(value: object, before: Mapping[str, Any], after: Mapping[str, Any], entry: str, path: Path) -> None:
    """Check what an optimiser keeps of a parameter by what it keeps before and after a first step."""
    entry = f"{entry} of the optimizer"
    if not before and value == {}:  # no gradient has come to this parameter yet
        return
    state = checked_mapping(value, entry, path, *after)
    require_entry(len(state) == len(after), entry, path, f"the entries {', '.join(after)}", sorted(state))
    for name, reference in after.items():
        _check_like(state[name], reference, f"{name} in {entry}", path)
    for name in NOT_NEGATIVE & state.keys():
        require_entry(bool((state[name] >= 0).all()), f"{name} in {entry}", path, "no negative value", "some")
    if "step" in after:
        step, least = float(state["step"]), 0 if before else 1
        whole = step >= least and step == int(step)
        require_entry(whole, f"step in {entry}", path, "the number of steps taken", state["step"])


def _check_like(value: object, reference: object, entry: str, path: Path) -> None:
    if not isinstance(reference, Tensor):
        kind = type(reference)
        fits = type(value) is kind and (not isinstance(value, float) or math.isfinite(value))
        require_entry(fits, entry, path, f"a {kind.__name__}", value)
        return
    shape = tuple(reference.shape)
    # Counts are in single precision, or in double where that is torch's default.
    kinds = (reference.dtype,) if shape else (reference.dtype, torch.float32, torch.float64)
    fits = (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and tuple(value.shape) == shape
        and value.dtype in kinds
        and bool(value.isfinite().all())
    )
    require_entry(fits, entry, path, f"a finite {reference.dtype} tensor of shape {shape}", value)


def checked_average(value: object, trained: Mapping[str, Tensor], path: Path) -> tuple[int, dict[str, Tensor]]:
    """Return the number of steps of an average of weights, and the weights beside it that are trained."""
    stored = checked_mapping(value, "average", path, "steps", "weights")
    steps = stored["steps"]
    require_entry(type(steps) is int and steps >= 0, "steps of the average", path, "a number of steps", steps)
    weights = checked_mapping(stored["weights"], "weights of the average", path, *trained)
    known = weights.keys() == trained.keys()
    require_entry(known, "weights of the average", path, "those that are trained", sorted(weights))
    for name, tensor in trained.items():
        _check_like(weights[name], tensor, f"{name} in weights of the average", path)
    return steps, weights


def checked_precision(value: object, own: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the state of the scaling of losses, which 16-bit precision has, with the entries of `own`."""
    stored = checked_mapping(value, "precision", path, *own)
    for name, number in stored.items():
        known = name in own and type(number) is type(own[name])
        fits = known and isinstance(number, int | float) and math.isfinite(number) and number >= 0
        require_entry(fits, f"{name} of the precision", path, f"a number like {own.get(name)!r}", number)
    return stored
