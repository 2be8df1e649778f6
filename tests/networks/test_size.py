"""Parameters counted, and large models refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vae_flows.errors import InvalidInputError
from vae_flows.networks import MLPDecoder, check_parameter_count, count_parameters


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.Linear(3, 2), layer)) == 12 + 8
    assert count_parameters(nn.Identity()) == 0


def test_a_model_passes_up_to_the_limit_and_no_further():
    check_parameter_count(nn.Linear(3, 3), 12)
    with pytest.raises(InvalidInputError, match="at most 11, got 12"):
        check_parameter_count(nn.Linear(3, 3), 11)


def test_the_message_tells_the_largest_part_its_cost_and_the_setting():
    with torch.device("meta"):
        decoder = MLPDecoder(32, (3, 32, 32), (300,), parameters_per_pixel=256)
    with pytest.raises(InvalidInputError) as raised:
        check_parameter_count(decoder, setting="network.max_parameters")
    message = str(raised.value)
    assert f"got {count_parameters(decoder):,}" in message
    assert "body.1.weight (786,432 × 300) holds 235,929,600" in message
    assert "3.79 GB" in message
    assert f"allow it: network.max_parameters={count_parameters(decoder)}." in message
