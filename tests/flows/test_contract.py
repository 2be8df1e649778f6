"""What every flow promises: the library's, and those of Pyro and zuko."""

from __future__ import annotations

import pytest
import torch

from tests.small_flows import CONTRACTS, DISCRETE, FFJORDS, NAMES, params
from vae_flows.errors import InvalidInputError
from vae_flows.flows import available_flows
from vae_flows.testing import CHECKS
from vae_flows.testing.contract import Check

D, C, B = 4, 3, 5


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("row", params(CONTRACTS))
@pytest.mark.filterwarnings("ignore:ConditionalAutoRegressiveNN input_dim = 1:UserWarning")
def test_contract(row: str, check: Check) -> None:
    check(CONTRACTS[row].contract())


def test_every_flow_of_the_registry_has_a_row() -> None:
    examples = {"my-flow"}  # of doctests in the same process
    rows = {row.values[0] for row in NAMES}
    assert set(available_flows()) - examples <= rows
    assert {row for row in rows if not row.startswith("zuko:")} <= set(available_flows())


@pytest.mark.parametrize("row", [*DISCRETE, *FFJORDS])
def test_wrong_inputs_are_named(row: str) -> None:
    flow = CONTRACTS[row].contract().flow()
    transform = flow(torch.zeros(B, C, dtype=torch.float64))
    with pytest.raises(
        InvalidInputError, match=rf"latents of shape \(\*sample, \*batch, {D}\) with \*batch = \({B},\)"
    ):
        transform(torch.zeros(B + 1, D))
    with pytest.raises(InvalidInputError, match=r"latents of shape .*, got shape"):
        transform.inv(torch.zeros(B, 1, 2, D))
    with pytest.raises(InvalidInputError, match=rf"latents of shape \(\.\.\., {D}\), got shape \({B}, {D + 1}\)"):
        transform(torch.zeros(B, D + 1))
    with pytest.raises(InvalidInputError, match=r"a floating-point tensor, got a torch\.int64"):
        transform(torch.zeros(B, D, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match=rf"context: .*\(\*batch, {C}\).*of shape \({B}, {C + 1}\)"):
        flow(torch.zeros(B, C + 1))
    with pytest.raises(InvalidInputError, match=r"context: .*got a torch\.int64"):
        flow(torch.zeros(B, C, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="latent_dim: expected a positive integer, got 0"):
        CONTRACTS[row].build(0, C)
