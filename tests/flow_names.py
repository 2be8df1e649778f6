"""Names of all flows for parametrized tests; those of other libraries, which the contract holds too, are slow ones."""

import pytest

import vae_flows as vf

__all__ = ["FLOWS"]

FLOWS = [
    pytest.param(name, marks=[pytest.mark.slow] if ":" in name else [])
    for name in vf.available_flows()
    if name != "my-flow"  # a doctest's
]
