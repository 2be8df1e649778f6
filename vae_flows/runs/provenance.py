"""Where a run took place: versions, hardware, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe_commit", "describe_hardware", "describe_provenance", "describe_versions"]

PACKAGES = ("vae-flows", "torch", "torchdiffeq", "pyro-ppl", "lightning-fabric", "numpy", "scipy")
GIT_SECONDS = 10


def describe_provenance() -> dict[str, Any]:
    """Return what figures are published with: versions, hardware, commit and whether files differ from it."""
    return {"versions": describe_versions(), "hardware": describe_hardware(), **describe_commit()}


def describe_versions(*others: str) -> dict[str, str | None]:
    """Return the versions of Python, of what all numbers depend on and of other packages; `None` if not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in (*PACKAGES, *others)}}


def describe_hardware() -> dict[str, Any]:
    """Return processor, cores, threads in use and accelerators."""
    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": accelerators,
    }


def describe_commit(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Return the commit of the checkout that holds this code, and whether files differ from it.

    Both are `None` where the code is not under version control, for instance when it is installed inside the checkout
    of another project.
    """
    unknown = {"commit": None, "dirty": None}
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return unknown
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    return unknown if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's model; Linux tells it only in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
