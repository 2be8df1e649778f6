"""Flows: modules that turn a context into a transform, and the registry that knows them by name."""

from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.identity import IdentityFlow
from vae_flows.flows.registry import available_flows, make_flow, register_flow

__all__ = ["AmortizedFlow", "IdentityFlow", "available_flows", "make_flow", "register_flow"]
