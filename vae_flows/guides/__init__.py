"""Flow posteriors as guides of the user's own Pyro models."""

from vae_flows.guides.auto import AmortizedAutoGuide
from vae_flows.guides.flow_guide import FlowGuide
from vae_flows.guides.packing import PackingName
from vae_flows.guides.sites import LocalSite

__all__ = ["AmortizedAutoGuide", "FlowGuide", "LocalSite", "PackingName"]
