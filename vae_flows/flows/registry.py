"""Flows by name: those of the library, those registered by users, and entry points of other packages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.flows.base import AmortizedFlow

__all__ = ["available_flows", "make_flow", "register_flow", "registered_name"]

ENTRY_POINT_GROUP = "vae_flows.flows"
FlowClass = TypeVar("FlowClass", bound=type[AmortizedFlow])

_registered: dict[str, type[AmortizedFlow]] = {}


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
    """Return the name by which `make_flow` builds flows of this one's class; not that of a class it derives from.

    Example:
        >>> from vae_flows.flows import PlanarFlow
        >>> registered_name(PlanarFlow(4, 8)), registered_name(print)
        ('planar', None)
    """
    return vars(type(flow)).get("name") if isinstance(flow, AmortizedFlow) else None


def available_flows() -> tuple[str, ...]:
    """Return the names of all flows, sorted: the library's own, registered ones and entry points."""
    external = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(external | set(_registered)))


def make_flow(name: str, latent_dim: int, context_dim: int, **options: Any) -> AmortizedFlow:
    """Build the flow called `name` for these sizes; `options` go to its class.

    Raises:
        UnknownNameError: No flow has that name; the message lists the nearest ones.
        InvalidInputError: An option is not one of the flow's.

    Example:
        >>> make_flow("planar", latent_dim=4, context_dim=8, num_layers=2).latent_dim
        4
    """
    flow = _registered.get(name)
    if flow is None:
        points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
        if not points:
            raise unknown_name("flow", name, available_flows())
        flow = register_flow(name)(points[0].load())
    try:
        return flow(latent_dim, context_dim, **options)
    except TypeError as error:
        raise InvalidInputError(f"flow {name!r} does not take these options ({sorted(options)}): {error}.") from error
