from __future__ import annotations

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.flows import PlanarFlow
from vae_flows.transforms import ChainTransform, PlanarTransform


def test_layers_use_their_own_parameters() -> None:
    flow = PlanarFlow(4, 3, num_layers=2)
    context, z = torch.randn(5, 3), torch.randn(5, 4)
    u, w, b = flow.heads(context)
    expected = ChainTransform([PlanarTransform(u[:, layer], w[:, layer], b[:, layer]) for layer in range(2)])
    assert torch.equal(flow(context)(z), expected(z))


def test_number_of_layers_is_checked() -> None:
    with pytest.raises(InvalidInputError, match="PlanarFlow num_layers: expected a positive integer, got 0"):
        PlanarFlow(4, 3, num_layers=0)
