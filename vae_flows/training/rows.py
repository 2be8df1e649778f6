"""What is chosen by name and made of options: rows of a registry are frozen records, whose fields are the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from vae_flows.errors import InvalidInputError, complaint, did_you_mean, unknown_name

__all__ = ["make_row"]

Row = TypeVar("Row")


def make_row(kind: str, rows: Mapping[str, type[Row]], name: object, options: object) -> Row:
    """Make the row called `name`, with these options.

    Arguments:
        kind: What the rows are, which is also the name of the setting.
        rows: The records, by name.
        name: Of one of them.
        options: Its fields, by name.

    Raises:
        UnknownNameError: There is no such row.
        InvalidInputError: It has no such option.

    Example:
        >>> from vae_flows.training.schedules import SCHEDULES
        >>> make_row("schedule", SCHEDULES, "step", {"epochs": 10})
        StepSchedule(epochs=10, factor=0.1)
    """
    if not isinstance(name, str) or name not in rows:
        raise unknown_name(kind, name, rows)
    subject = f"TrainingSettings {kind}_options"
    if not isinstance(options, Mapping):
        raise InvalidInputError(complaint(subject, "a mapping of options by name", repr(options)))
    record: Any = rows[name]
    known = [option.name for option in fields(record)]
    for option in options:
        if option not in known:
            expected = f"options of {name!r} among {', '.join(known)}" if known else f"none beside {name!r}"
            raise InvalidInputError(complaint(subject, expected, repr(option), did_you_mean(option, known)))
    return rows[name](**options)
