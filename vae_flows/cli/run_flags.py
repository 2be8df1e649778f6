"""Flags of a run's settings, made from the records that hold them and from what flows and likelihoods take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, NamedTuple, get_type_hints

from vae_flows.cli.flags import Flag, Group, documentation, flags_of_record, make_flag, parse
from vae_flows.flows.registry import find_flow, flow_parameters
from vae_flows.likelihoods.registry import find_likelihood
from vae_flows.persistence.records import flatten
from vae_flows.runs.build import flow_options
from vae_flows.runs.settings import RunSettings

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
    groups = [*_settings_flags(runs), *_likelihood_flags(runs, arguments)]
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
    options = [flow_options(name, settings.posterior_options) for settings in runs if settings.posterior == name]
    title = f"Options of the posterior {name}."
    return _option_flags(name, name, flow_parameters(name), options, documentation(_documented(name)), title)


def _documented(name: str) -> Any:
    flow: Any = find_flow(name)
    return getattr(flow, "func", flow)  # flows of other libraries are partial calls


def _likelihood_flags(runs: Sequence[RunSettings], arguments: Sequence[str]) -> list[Group]:
    typed = parse([Flag("likelihood", str | None, (None,))], arguments, "", partly=True)
    names = [typed["likelihood"]] if typed else list({settings.likelihood for settings in runs})
    name = names[0]
    if len(names) > 1 or name is None:
        return []
    likelihood = find_likelihood(name)
    hints = get_type_hints(likelihood.__init__)
    parameters = [
        parameter.replace(annotation=hints.get(parameter.name, Parameter.empty))
        for parameter in signature(likelihood).parameters.values()
        if parameter.name != "event_dim"  # follows from the data
    ]
    options = [settings.likelihood_options for settings in runs if settings.likelihood == name]
    title = f"Options of the likelihood {name}."
    return [_option_flags("likelihood_options", name, parameters, options, documentation(likelihood), title)]


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
