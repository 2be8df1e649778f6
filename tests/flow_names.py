"""Names and small sizes of flows for parametrized tests; those of other libraries are slow ones."""

import pytest

import vae_flows as vf

__all__ = ["FLOWS", "SMALL_DISCRETE"]

FLOWS = [
    pytest.param(name, marks=[pytest.mark.slow] if ":" in name else [])
    for name in vf.available_flows()
    if name != "my-flow"  # a doctest's
]

SMALL_DISCRETE = {
    "iaf": {"num_layers": 2, "hidden_dim": 8},
    "planar": {"num_layers": 2},
    "sylvester-orthogonal": {"num_layers": 2, "num_orthogonal": 2},
    "sylvester-householder": {"num_layers": 2, "num_reflections": 2},
    "sylvester-triangular": {"num_layers": 2},
}
