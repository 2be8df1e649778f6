"""What every flow promises. A new flow costs one row of `FLOWS`."""

from __future__ import annotations

import pytest
import torch

from vae_flows.cnf import ODESolver
from vae_flows.errors import InvalidInputError
from vae_flows.flows import (
    FFJORD,
    HouseholderSylvesterFlow,
    IAFFlow,
    IdentityFlow,
    OrthogonalSylvesterFlow,
    PlanarFlow,
    TriangularSylvesterFlow,
    available_flows,
    find_flow,
)
from vae_flows.testing import CHECKS, FlowContract
from vae_flows.testing.contract import Check

D, C, B = 4, 3, 5
ACCURATE = ODESolver(rtol=1e-6, atol=1e-6)
SOLVER = 1e-3  # two solves at the tolerance of ACCURATE

FLOWS = {
    "none": FlowContract(IdentityFlow),
    "planar": FlowContract(lambda d, c: PlanarFlow(d, c, num_layers=2)),
    "sylvester-orthogonal": FlowContract(
        lambda d, c: OrthogonalSylvesterFlow(d, c, num_layers=2, num_orthogonal=(d + 1) // 2)
    ),
    "sylvester-householder": FlowContract(lambda d, c: HouseholderSylvesterFlow(d, c, num_layers=2, num_reflections=3)),
    "sylvester-triangular": FlowContract(lambda d, c: TriangularSylvesterFlow(d, c, num_layers=2)),
    "iaf": FlowContract(lambda d, c: IAFFlow(d, c, num_layers=2, hidden_dim=8)),
    "ffjord-low-rank": FlowContract(
        lambda d, c: FFJORD(d, c, hidden_dims=(6,), rank=2, solver=ACCURATE), tolerance=SOLVER
    ),
    "ffjord-bias": FlowContract(
        lambda d, c: FFJORD(d, c, hidden_dims=(6,), num_blocks=2, amortization="bias", solver=ACCURATE),
        tolerance=SOLVER,
    ),
    "ffjord-concat-blend": FlowContract(
        lambda d, c: FFJORD(
            d,
            c,
            hidden_dims=(6,),
            amortization="concat",
            time_conditioning="blend",
            activation="swish",
            solver=ACCURATE,
        ),
        tolerance=SOLVER,
    ),
    "ffjord-hyper-learned-time": FlowContract(
        lambda d, c: FFJORD(
            d, c, hidden_dims=(6, 5), amortization="hyper", train_integration_time=True, solver=ACCURATE
        ),
        tolerance=SOLVER,
    ),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("row", FLOWS)
def test_contract(row: str, check: Check) -> None:
    check(FLOWS[row])


def test_every_flow_of_the_library_has_a_row() -> None:
    own = {
        name
        for name in available_flows()
        if ":" not in name and find_flow(name).__module__.startswith("vae_flows.flows")
    }
    examples = {"my-flow"}  # of doctests in the same process
    assert own - examples == {contract.fresh().name for contract in FLOWS.values()}


@pytest.mark.parametrize("row", FLOWS)
def test_wrong_inputs_are_named(row: str) -> None:
    flow = FLOWS[row].flow()
    transform = flow(torch.zeros(B, C, dtype=torch.float64))
    with pytest.raises(
        InvalidInputError, match=rf"latents of shape \(\*sample, \*batch, {D}\) with \*batch = \({B},\)"
    ):
        transform(torch.zeros(B + 1, D))
    with pytest.raises(InvalidInputError, match=r"latents of shape .*, got shape"):
        transform.inv(torch.zeros(B, 1, 2, D))
    with pytest.raises(InvalidInputError, match=rf"latents of shape \(\.\.\., {D}\), got shape \({B}, {D + 1}\)"):
        transform(torch.zeros(B, D + 1))
    with pytest.raises(InvalidInputError, match=r"a floating-point tensor, got torch\.int64"):
        transform(torch.zeros(B, D, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match=rf"context: .*\(\*batch, {C}\).*of shape \({B}, {C + 1}\)"):
        flow(torch.zeros(B, C + 1))
    with pytest.raises(InvalidInputError, match=r"context: .*got torch\.int64"):
        flow(torch.zeros(B, C, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="latent_dim: expected a positive integer, got 0"):
        FLOWS[row].build(0, C)
