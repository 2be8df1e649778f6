"""Modules that import a package of an extra, which the oldest releases do not have."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["lacks_its_package"]

PACKAGES = {
    **dict.fromkeys(("ray_engine", "ray_tasks"), "ray"),
    **dict.fromkeys(("slurm_engine", "slurm_jobs", "slurm_states"), "submitit"),
}


def lacks_its_package(path: Path) -> bool:
    """Return whether a module of `vae_flows/benchmark` cannot be imported here."""
    package = PACKAGES.get(path.stem) if path.parent.parts[-2:] == ("vae_flows", "benchmark") else None
    return package is not None and find_spec(package) is None
