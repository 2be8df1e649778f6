"""Flows by name: those of the library, registered ones, entry points of other packages, and other libraries' flows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import Any, NamedTuple, TypeVar, get_type_hints

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, UnknownNameError, complaint, did_you_mean, unknown_name
from vae_flows.flows.base import AmortizedFlow

__all__ = [
    "Adapter",
    "available_flows",
    "check_options",
    "find_flow",
    "flow_parameters",
    "make_flow",
    "register_adapter",
    "register_flow",
    "registered_name",
    "upgraded_options",
]

ENTRY_POINT_GROUP = "vae_flows.flows"
FlowClass = TypeVar("FlowClass", bound=type[AmortizedFlow])
FlowFactory = Callable[..., AmortizedFlow]


class Adapter(NamedTuple):
    """How flows of another library are made, which are called `<prefix>:<family>`."""

    make: FlowFactory
    """Takes latent size, context size, `family=` and the flow's options."""
    families: Callable[[], tuple[str, ...]]
    """Returns the families that can be made."""
    require: Callable[[str], None]
    """Raises a library error for a family that cannot be made."""
    options: Callable[[str], tuple[Parameter, ...]]
    """Returns the parameters of the options that a family takes, those of the other library among them."""


_registered: dict[str, type[AmortizedFlow]] = {}
_adapters: dict[str, Adapter] = {}


@checked
def register_flow(name: str) -> Callable[[FlowClass], FlowClass]:
    """Class decorator that makes a flow known to `make_flow`, `AmortizedPosterior` and the benchmark by `name`.

    Saved models name the flow too, with its options: it keeps them as attributes of the same names, or returns them
    from a method `get_config()`.

    Raises:
        InvalidInputError: The name is taken by another class, or the class is no `AmortizedFlow`.

    Example:
        >>> from vae_flows.flows import IdentityFlow, available_flows
        >>> @register_flow("my-flow")
        ... class MyFlow(IdentityFlow):
        ...     pass
        >>> "my-flow" in available_flows()
        True
    """

    def register(flow: FlowClass) -> FlowClass:
        if not (isinstance(flow, type) and issubclass(flow, AmortizedFlow)):
            raise InvalidInputError(complaint(f"flow {name!r}", "a subclass of AmortizedFlow", repr(flow)))
        taken = _registered.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (flow.__module__, flow.__qualname__):
            raise InvalidInputError(complaint(f"flow {name!r}", "a free name", f"one taken by {taken.__qualname__}"))
        flow.name = name
        _registered[name] = flow
        return flow

    return register


def registered_name(flow: object) -> str | None:
    """Return the name by which `make_flow` builds flows like this one; not that of a class it derives from.

    Example:
        >>> from vae_flows.flows import PlanarFlow
        >>> registered_name(PlanarFlow(4, 8)), registered_name(len)
        ('planar', None)
    """
    if not isinstance(flow, AmortizedFlow):
        return None
    return vars(flow).get("name") or vars(type(flow)).get("name")  # an adapted flow has its name itself


def register_adapter(prefix: str, adapter: Adapter) -> None:
    """Make the flows of another library known as `<prefix>:<family>`."""
    _adapters[prefix] = adapter


def available_flows() -> tuple[str, ...]:
    """Return the names of all flows, sorted: the library's, registered ones, entry points, Pyro's and zuko's.

    Nothing is imported for it. zuko's flows are there if zuko is installed.

    Example:
        >>> {"ffjord", "none", "pyro:planar"} <= set(available_flows())
        True
    """
    external = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    adapted = {f"{prefix}:{family}" for prefix, adapter in _adapters.items() for family in adapter.families()}
    return tuple(sorted(external | adapted | set(_registered)))


def find_flow(name: str) -> FlowFactory:
    """Return what makes the flow called `name` from latent size, context size and options.

    Raises:
        UnknownNameError: No flow has that name; the message lists the nearest ones.
        InvalidInputError: Its entry point cannot be loaded or is no flow, or its library is not installed.

    Example:
        >>> find_flow("planar").__name__
        'PlanarFlow'
    """
    if not isinstance(name, str):
        raise _no_name(name)
    prefix, colon, family = name.partition(":")
    if colon and prefix in _adapters:
        adapter = _adapters[prefix]
        adapter.require(family)
        return partial(adapter.make, family=family)
    if name not in _registered:
        points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
        if not points:
            raise unknown_name("flow", name, available_flows())
        register_flow(name)(_load(points[0]))
    return _registered[name]


def make_flow(name: str, latent_dim: int, context_dim: int, **options: Any) -> AmortizedFlow:
    """Build the flow called `name` for these sizes; `options` go to its class.

    `pyro:<family>` and `zuko:<family>` are the flows of those libraries, with the options of `PyroFlow` and `ZukoFlow`.

    Raises:
        UnknownNameError: No flow has that name; the message lists the nearest ones.
        InvalidInputError: An option is not one of the flow's, which the message lists, or the flow is in a package that
            is not installed.

    Example:
        >>> make_flow("planar", latent_dim=4, context_dim=8, num_layers=2).latent_dim
        4
        >>> make_flow("pyro:radial", latent_dim=4, context_dim=8, num_layers=2).name
        'pyro:radial'
    """
    factory = find_flow(name)
    check_options(name, options)
    return factory(latent_dim, context_dim, **options)


def check_options(name: str, options: Collection[str]) -> None:
    """Check that the flow called `name` takes these options, and gets those that it needs; nothing is built for it.

    Raises:
        UnknownNameError: No flow has that name.
        InvalidInputError: It does not; the message lists the options that it takes, the nearest ones first.

    Example:
        >>> try:
        ...     check_options("planar", ["x"])
        ... except InvalidInputError as error:
        ...     print(error)
        flow 'planar' does not take these options (['x']): expected num_layers, initialization, got 'x'.
    """
    own = flow_parameters(name)
    known = tuple(p.name for p in own if p.kind is not p.VAR_KEYWORD)
    is_open = len(known) < len(own)
    needed = [p.name for p in own if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    unknown = [] if is_open else [option for option in options if option not in known]
    missing = [option for option in needed if option not in options]
    if unknown or missing:
        subject = f"flow {name!r} does not take these options ({sorted(options)})"
        expected = ", ".join(known) or "none"
        got = ", ".join(map(repr, unknown)) if unknown else f"none of the name {missing[0]!r}, which it needs"
        remedy = did_you_mean(unknown[0], known) if unknown else ""
        raise InvalidInputError(complaint(subject, expected, got, remedy))


def flow_parameters(name: str) -> tuple[Parameter, ...]:
    """Return the parameters of the options that the flow called `name` takes, their annotations being types.

    The last one collects options of any name where the flow takes such.

    Raises:
        UnknownNameError: No flow has that name.

    Example:
        >>> [(parameter.name, parameter.default) for parameter in flow_parameters("iaf")][:2]
        [('num_layers', 4), ('hidden_dim', 320)]
    """
    flow = find_flow(name)
    prefix, colon, family = name.partition(":")
    if colon and prefix in _adapters:
        return _adapters[prefix].options(family)
    own = list(signature(flow).parameters.values())[2:]  # the first two are the sizes
    hints = get_type_hints(flow.__init__ if isinstance(flow, type) else flow)
    return tuple(p.replace(annotation=hints.get(p.name, p.annotation)) for p in own if p.kind is not p.VAR_POSITIONAL)


def upgraded_options(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options that an earlier release wrote for the flow called `name` as this one would.

    Example:
        >>> upgraded_options("ffjord", {"amortization": "bias", "rank": 20})
        {'amortization': 'bias', 'rank': None}
    """
    upgrade = getattr(_registered.get(name), "upgrade_config", None)
    return options if upgrade is None else upgrade(options)


def _no_name(value: object) -> UnknownNameError:
    given = "a flow, which needs no making" if isinstance(value, AmortizedFlow) else described(value)
    remedy = ""
    if isinstance(value, type) and issubclass(value, AmortizedFlow):
        remedy = f"Make it: {value.__name__}(latent_dim, context_dim)."
    return UnknownNameError(complaint("flow", f"one of {', '.join(available_flows())}", given, remedy))


def _load(point: EntryPoint) -> type[AmortizedFlow]:
    try:
        return point.load()
    except (AttributeError, ImportError) as error:
        raise InvalidInputError(
            complaint(f"flow {point.name!r}", f"a class at the entry point {point.value!r}", str(error))
        ) from error
