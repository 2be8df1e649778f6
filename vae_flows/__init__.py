"""Variational autoencoders whose approximate posteriors are FFJORD flows.

The names of `vae_flows.namespace` are the library. They are loaded when one is first used, and PyTorch with them;
`vae_flows.training`, `vae_flows.reporting` and others that need more each by itself.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from vae_flows.version import __version__ as __version__

if _TYPE_CHECKING:
    from vae_flows.namespace import *  # noqa: F403 - it lists its names

# Training brings Lightning Fabric and reporting matplotlib: seconds that a guide's user need not wait for.
_LAZY = ("benchmark", "export", "reporting", "runs", "testing", "training")
_LAZY_NAMES = ("Run", "compare")


def __getattr__(name: str) -> _Any:
    globals()[name] = found = _load(name)  # once: the next access does not come here
    return found


def _load(name: str) -> _Any:
    # A module by itself, first: while the namespace is loaded, its modules import each other from this package.
    if name.isidentifier() and not name.startswith("__") and _find_spec(f"vae_flows.{name}") is not None:
        return _import_module(f"vae_flows.{name}")
    if name in _LAZY_NAMES:
        return getattr(_import_module("vae_flows.runs"), name)
    if name == "__all__" or not name.startswith("__"):
        namespace = _import_module("vae_flows.namespace")
        if name == "__all__" or name in namespace.__all__:
            return getattr(namespace, name)
    raise AttributeError(f"module 'vae_flows' has no attribute {name!r}")


def __dir__() -> list[str]:
    names = _import_module("vae_flows.namespace").__all__
    return sorted({*names, *_LAZY, *_LAZY_NAMES, *(name for name in globals() if name.startswith("__"))})
