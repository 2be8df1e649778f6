"""Flows of other libraries under names of their own: `pyro:planar`, `zuko:NSF` and so on."""

from vae_flows.flows.adapters.foreign import AdaptedFlow, ForeignTransform
from vae_flows.flows.adapters.pyro import PyroFlow, pyro_families, pyro_options, require_pyro
from vae_flows.flows.adapters.zuko import ZUKO_FAMILIES, ZukoFlow, require_zuko, zuko_is_installed, zuko_options
from vae_flows.flows.registry import Adapter, register_adapter

__all__ = ["AdaptedFlow", "ForeignTransform", "PyroFlow", "ZukoFlow"]

register_adapter("pyro", Adapter(PyroFlow, pyro_families, require_pyro, pyro_options))
register_adapter(
    "zuko", Adapter(ZukoFlow, lambda: ZUKO_FAMILIES if zuko_is_installed() else (), require_zuko, zuko_options)
)
