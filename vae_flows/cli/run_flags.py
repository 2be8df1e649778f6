"""Flags of a run's settings, made from the records that hold them and from what they name takes as options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, NamedTuple, get_type_hints

import torch

from vae_flows.cli.flags import Flag, Group, documentation, flags_of_record, make_flag
from vae_flows.cli.parsing import parse
from vae_flows.cnf.regularization import REGULARIZERS
from vae_flows.errors import UnknownNameError
from vae_flows.flows.registry import find_flow, flow_parameters
from vae_flows.likelihoods.registry import find_likelihood
from vae_flows.persistence.records import flatten
from vae_flows.runs.build import flow_options, takes_regularizers
from vae_flows.runs.settings import RunSettings
from vae_flows.training.objectives import OBJECTIVES
from vae_flows.training.optimizers import optimizer_parameters
from vae_flows.training.schedules import SCHEDULES

__all__ = ["NO_CHANGES", "Changes", "changes_flags"]

CHOSEN_APART = ("data", "posterior", "posterior_options", "likelihood_options")
"""Fields with flags of their own."""


class Changes(NamedTuple):
    """Settings that were given as flags, as `with_changes` takes them.

    Arguments:
        settings: Of every run, by dotted name.
        flow_options: Of flows, by posterior and dotted name.
    """

    settings: Mapping[str, Any]
    flow_options: Mapping[str, Mapping[str, Any]]


NO_CHANGES = Changes({}, {})


def changes_flags(runs: Sequence[RunSettings], arguments: Sequence[str]) -> Group:
    """Return the flags by which settings of these runs can be changed; they make a `Changes`.

    Arguments:
        runs: Settings without the changes, which are the flags' defaults.
        arguments: What was typed, which may name the likelihood whose options are flags.
    """
    groups = [*_settings_flags(runs), *(group for named in NAMED for group in _named_flags(named, runs, arguments))]
    flows = [_flow_flags(name, runs) for name in dict.fromkeys(settings.posterior for settings in runs)]
    return Group(
        "changes",
        (Group("settings", tuple(groups), None), Group("flows", tuple(flows), None)),
        None,
        make=lambda given: Changes(
            dict(flatten(given.get("settings", {}))),
            {name: dict(flatten(options)) for name, options in given.get("flows", {}).items()},
        ),
    )


def _settings_flags(runs: Sequence[RunSettings]) -> list[Flag | Group]:
    """Return the flags of the fields that every run has; those of the hardware have no prefix."""
    members: list[Flag | Group] = []
    for member in flags_of_record(RunSettings, runs, without=CHOSEN_APART):
        if isinstance(member, Group) and member.name == "compute":
            flags = [flag._replace(alias=f"--compute.{flag.name}") for flag in member.members if isinstance(flag, Flag)]
            member = member._replace(prefix=None, members=tuple(flags))
        if isinstance(member, Group) and member.name == "training":  # its seed is chosen with data and posterior
            member = member._replace(members=tuple(flag for flag in member.members if flag.name != "seed"))
        members.append(member)
    return members


def _flow_flags(name: str, runs: Sequence[RunSettings]) -> Group:
    options = [settings.posterior_options for settings in runs if settings.posterior == name]
    parameters, title = flow_parameters(name), f"Options of the posterior {name}."
    flow: Any = find_flow(name)
    about = documentation(getattr(flow, "func", flow))  # flows of other libraries are partial calls
    plain = [flow_options(name, settings) for settings in options]
    flags = _option_flags(name, name, parameters, plain, about, title)
    weights = [
        Group(parameter.name, _weight_flags([settings.get(parameter.name) for settings in options]), None, title)
        for parameter in parameters
        if takes_regularizers(parameter.annotation)
    ]
    return flags._replace(members=(*flags.members, *weights))


def _weight_flags(given: Sequence[Any]) -> tuple[Flag, ...]:
    """Return the flags of the weights of regularisers, whose weights by name runs have in `given`."""
    weights = [one if isinstance(one, Mapping) else {} for one in given]
    return tuple(
        Flag(
            name,
            float,
            tuple(weight.get(name, 0.0) for weight in weights),
            f"Weight in the loss of the regulariser {kind.__name__}; 0 leaves it out.",
            subject=name,
        )
        for name, kind in REGULARIZERS.items()
    )


class _Named(NamedTuple):
    """A setting that names something with options, which are a setting beside it.

    Arguments:
        setting: Its dotted name.
        what: What it names, for people.
        find: Returns what has a name, whose docstring says what its options are.
        parameters: Returns the parameters of its options.
    """

    setting: str
    what: str
    find: Callable[[str], Any]
    parameters: Callable[[str], Iterable[Parameter]]


def _parameters_of(found: Any) -> list[Parameter]:
    hints = get_type_hints(found.__init__)
    own = signature(found).parameters.values()
    return [parameter.replace(annotation=hints.get(parameter.name, Parameter.empty)) for parameter in own]


def _of_likelihood(name: str) -> list[Parameter]:
    # The number of dimensions follows from the data.
    return [parameter for parameter in _parameters_of(find_likelihood(name)) if parameter.name != "event_dim"]


NAMED = (
    _Named("likelihood", "likelihood", find_likelihood, _of_likelihood),
    _Named("training.optimizer", "optimiser", lambda name: getattr(torch.optim, name), optimizer_parameters),
    _Named("training.schedule", "schedule", lambda name: SCHEDULES[name], lambda name: _parameters_of(SCHEDULES[name])),
    _Named(
        "training.objective", "objective", lambda name: OBJECTIVES[name], lambda name: _parameters_of(OBJECTIVES[name])
    ),
)


def _named_flags(named: _Named, runs: Sequence[RunSettings], arguments: Sequence[str]) -> list[Group]:
    """Return the flags of the options of what was typed for a setting, or else of what all runs have there.

    There are none where what is typed is no such name, which the record of the settings tells.
    """
    place, _, field = named.setting.rpartition(".")
    records = [getattr(settings, place) if place else settings for settings in runs]
    setting = Group(place, (Flag(field, str, (None,)),), place or None)
    typed = dict(flatten(parse([setting], arguments, "", partly=True)))
    names = list(typed.values()) or list({getattr(record, field) for record in records})
    name = names[0]
    if len(names) > 1 or name is None:
        return []
    try:
        parameters = list(named.parameters(name))
    except (KeyError, UnknownNameError):
        return []
    options = [getattr(record, f"{field}_options") for record in records if getattr(record, field) == name]
    prefix, title = name.lower().replace("_", "-"), f"Options of the {named.what} {name}."
    about = documentation(named.find(name)) if parameters else {}
    return [_option_flags(f"{named.setting}_options", prefix, parameters, options, about, title)] if parameters else []


def _option_flags(
    name: str,
    prefix: str,
    parameters: Sequence[Parameter],
    options: Sequence[Mapping[str, Any]],
    about: Mapping[str, str],
    title: str,
) -> Group:
    """Return the flags of options, with the values that they have in runs, or else those of the signature."""
    members = []
    for parameter in parameters:
        if parameter.kind is not Parameter.VAR_KEYWORD:
            defaults = [given.get(parameter.name, parameter.default) for given in options or [{}]]
            members.append(make_flag(parameter.name, parameter.annotation, defaults, about.get(parameter.name, "")))
    return Group(name, tuple(member for member in members if member is not None), prefix, title)
