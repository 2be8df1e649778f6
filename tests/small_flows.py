"""The one table of flows that tests run through. A new flow costs one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

import vae_flows as vf
from tests.seeds import shifted
from vae_flows.flows import AmortizedFlow
from vae_flows.testing import FlowContract

__all__ = ["CONTRACTS", "DISCRETE", "FFJORDS", "FLOWS", "NAMES", "SmallFlow", "moved", "params"]

Module = TypeVar("Module", bound=nn.Module)

CLOSED_FORM = 1e-8
SOLVER = 1e-3  # two solves at the tolerance of CLOSE, amplified by the flow
SERIES = 1e-8  # 16 terms of the exponential's series
OFFSET = 1e-6  # Pyro adds 1e-8 to the factors whose logarithm it takes
SPLINE = 1e-7  # Pyro adds 1e-6 to the knots to find the bin
NUMERIC = 1e-7  # ends of Newton's method, amplified by the condition of a flow
ZUKO_SOLVER = 5e-3  # zuko divides log-determinants by 100 before it bounds their error by 1e-5

CLOSE = {"rtol": 1e-7, "atol": 1e-7}


def half(latent_dim: int) -> int:
    return (latent_dim + 1) // 2


@dataclass(frozen=True)
class SmallFlow:
    """A flow that is cheap to make and to run, and how exact it is.

    Arguments:
        name: Its name in the registry.
        options: Its options; one that is a function takes the latent size.
        tolerance: Largest error of a round trip in float64.
        latent_scale: Standard deviation of the values that are inverted.
        slow: Whether its tests run with the slow ones.
    """

    name: str
    options: dict[str, Any]
    tolerance: float = CLOSED_FORM
    latent_scale: float = 10.0
    slow: bool = False

    def options_for(self, latent_dim: int, **changes: Any) -> dict[str, Any]:
        """Return the options for a latent size, with changes."""
        options = {**self.options, **changes}
        return {name: value(latent_dim) if callable(value) else value for name, value in options.items()}

    def build(self, latent_dim: int, context_dim: int, **changes: Any) -> AmortizedFlow:
        """Return a new flow."""
        return vf.make_flow(self.name, latent_dim, context_dim, **self.options_for(latent_dim, **changes))

    def posterior(self, latent_dim: int, context_dim: int, **changes: Any) -> vf.AmortizedPosterior:
        """Return a new posterior with the flow."""
        return vf.AmortizedPosterior(latent_dim, context_dim, self.name, **self.options_for(latent_dim, **changes))

    def contract(self) -> FlowContract:
        """Return what the flow promises, to be checked with this run's seed."""
        return FlowContract(self.build, tolerance=self.tolerance, latent_scale=self.latent_scale, seed=shifted())


def library(name: str, **options: Any) -> SmallFlow:
    return SmallFlow(name, options)


def ffjord(**options: Any) -> SmallFlow:
    """A FFJORD flow that is solved closely enough for finite differences."""
    settings = options.pop("solver", {})
    solver = vf.ODESolver(**(settings if "method" in settings else {**CLOSE, **settings}))
    rank = {} if "amortization" in options else {"rank": 2}
    return SmallFlow("ffjord", {"hidden_dims": (6,), **rank, "solver": solver, **options}, tolerance=SOLVER)


def pyro(
    family: str, *, slow: bool = True, tolerance: float = CLOSED_FORM, scale: float = 10.0, **options: Any
) -> SmallFlow:
    options = {"num_layers": 2, "hidden_dims": (8,), **options}
    return SmallFlow(f"pyro:{family}", options, tolerance, scale, slow)


def zuko(
    family: str, *, slow: bool = True, tolerance: float = CLOSED_FORM, scale: float = 10.0, **options: Any
) -> SmallFlow:
    return SmallFlow(f"zuko:{family}", {"hidden_features": (8,), **options}, tolerance, scale, slow)


DISCRETE = {
    "none": library("none"),
    "planar": library("planar", num_layers=2),
    "sylvester-orthogonal": library("sylvester-orthogonal", num_layers=2, num_orthogonal=half),
    "sylvester-householder": library("sylvester-householder", num_layers=2, num_reflections=3),
    "sylvester-triangular": library("sylvester-triangular", num_layers=2),
    "iaf": library("iaf", num_layers=2, hidden_dim=8),
}
"""The library's flows that need no solve."""

FFJORDS = {
    "ffjord-low-rank": ffjord(),
    "ffjord-bias-two-blocks": ffjord(amortization="bias", num_blocks=2, noise="rademacher"),
    "ffjord-concat-blend-swish": ffjord(amortization="concat", time_conditioning="blend", activation="swish"),
    "ffjord-hyper-learned-time": ffjord(amortization="hyper", hidden_dims=(6, 5), train_integration_time=True),
    "ffjord-last-layer-squash": ffjord(amortization="last_layer", time_conditioning="squash", activation="tanh"),
    "ffjord-deep-recompute": ffjord(hidden_dims=(5, 5, 5), solver={"gradient": "recompute"}),
    "ffjord-adjoint": ffjord(amortization="bias", solver={"gradient": "adjoint"}),
    "ffjord-fixed-steps": ffjord(solver={"method": "rk4", "options": {"step_size": 0.05}}),
    "ffjord-brute-force": ffjord(eval_divergence="brute_force", activation="sine"),
}
"""Every kind of FFJORD."""

_SIGNAL = {"transforms": 1, "signal": 2, "network": {"hidden_features": (4,)}}

FOREIGN = {
    "pyro:affine_autoregressive": pyro("affine_autoregressive", slow=False),
    "pyro:affine_coupling": pyro("affine_coupling", slow=False),
    "pyro:householder": pyro("householder"),
    "pyro:matrix_exponential": pyro("matrix_exponential", tolerance=SERIES, iterations=16),
    "pyro:neural_autoregressive": pyro("neural_autoregressive", tolerance=OFFSET, scale=1.0, width=4),
    "pyro:planar": pyro("planar"),
    "pyro:radial": pyro("radial"),
    "pyro:spline": pyro("spline", tolerance=SPLINE),
    "pyro:spline_autoregressive": pyro("spline_autoregressive", tolerance=SPLINE),
    "pyro:affine_autoregressive-density": pyro("affine_autoregressive", orientation="density"),
    "zuko:BPF": zuko("BPF", tolerance=NUMERIC, transforms=2),
    "zuko:CNF": zuko("CNF", tolerance=ZUKO_SOLVER),
    "zuko:GF": zuko("GF", tolerance=NUMERIC, scale=0.5, transforms=2),
    "zuko:MAF": zuko("MAF", slow=False, transforms=2),
    "zuko:NAF": zuko("NAF", tolerance=NUMERIC, scale=1.0, **_SIGNAL),
    "zuko:NICE": zuko("NICE", slow=False, transforms=2),
    "zuko:NSF": zuko("NSF", transforms=2),
    "zuko:RealNVP": zuko("RealNVP", transforms=2),
    "zuko:SOSPF": zuko("SOSPF", tolerance=NUMERIC, scale=1.0, transforms=1),
    "zuko:UNAF": zuko("UNAF", tolerance=NUMERIC, scale=1.0, **_SIGNAL),
    "zuko:NSF-density": zuko("NSF", transforms=2, orientation="density"),
}
"""The flows of Pyro and zuko."""

CONTRACTS = {**DISCRETE, **FFJORDS, **FOREIGN}
"""All flows that keep the contract as exactly as they say."""

FLOWS = {**CONTRACTS, "ffjord": library("ffjord", hidden_dims=(6,), rank=2)}
"""And FFJORD with the solver that users have, for tests that do not look closely."""


def moved(module: Module, by: float = 0.1, dtype: torch.dtype = torch.float64) -> Module:
    """Return the module in evaluation mode and off a start at zero, where it could be right by accident."""
    module.to(dtype).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module


def params(rows: Iterable[str]) -> list[Any]:
    """Return rows for `pytest.mark.parametrize`: slow where they are, skipped where their library is missing."""
    return [pytest.param(row, marks=_marks(FLOWS[row])) for row in rows]


def _marks(flow: SmallFlow) -> list[pytest.MarkDecorator]:
    missing = flow.name.startswith("zuko:") and find_spec("zuko") is None
    marks: list[tuple[bool, Callable[[], pytest.MarkDecorator]]] = [
        (flow.slow, lambda: pytest.mark.slow),
        (missing, lambda: pytest.mark.skip(reason="zuko is not installed")),
    ]
    return [mark() for needed, mark in marks if needed]


NAMES = params(row for row in sorted(FLOWS) if row == FLOWS[row].name)
"""One row for each name of the registry."""
