"""Flows: modules that turn a context into a transform, and the registry that knows them by name."""

from vae_flows.flows.adapters import PyroFlow, ZukoFlow
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.ffjord import FFJORD
from vae_flows.flows.iaf import IAFFlow
from vae_flows.flows.identity import IdentityFlow
from vae_flows.flows.planar import PlanarFlow
from vae_flows.flows.registry import available_flows, find_flow, make_flow, register_flow
from vae_flows.flows.sylvester import HouseholderSylvesterFlow, OrthogonalSylvesterFlow, TriangularSylvesterFlow

__all__ = [
    "FFJORD",
    "AmortizedFlow",
    "HouseholderSylvesterFlow",
    "IAFFlow",
    "IdentityFlow",
    "OrthogonalSylvesterFlow",
    "PlanarFlow",
    "PyroFlow",
    "TriangularSylvesterFlow",
    "ZukoFlow",
    "available_flows",
    "find_flow",
    "make_flow",
    "register_flow",
]
