"""Flows on the meta device, and constants that survive it; draws of foreign flows without a graph."""

from __future__ import annotations

import pytest
import torch

import vae_flows as vf
from tests.small_flows import DISCRETE, FLOWS, params
from vae_flows.flows.constants import Constant


@pytest.mark.parametrize("row", DISCRETE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("built", ["on it", "moved to it"])
def test_what_was_on_the_meta_device_equals_what_was_not_once_it_is_loaded(
    row: str, dtype: torch.dtype, built: str
) -> None:
    posterior = DISCRETE[row].posterior(4, 3).to(dtype)
    if built == "on it":
        with torch.device("meta"):
            other = DISCRETE[row].posterior(4, 3).to(dtype)
    else:
        other = DISCRETE[row].posterior(4, 3).to(dtype).to("meta")
    other.to_empty(device="cpu")
    for buffer in other.buffers():  # what uninitialised memory may hold
        buffer.fill_(7)
    other.load_state_dict(posterior.state_dict())
    context, z = torch.randn(5, 3, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    assert torch.equal(other(context).log_prob(z), posterior(context).log_prob(z))


@pytest.mark.parametrize("row", DISCRETE)
def test_shapes_can_be_had_on_the_meta_device(row: str) -> None:
    with torch.device("meta"):
        flow = DISCRETE[row].build(4, 3)
        transform = flow(torch.randn(5, 3))
        for direction in (transform.forward_with_log_det, transform.inverse_with_log_det):
            value, log_det = direction(torch.randn(2, 5, 4))
            assert value.is_meta
            assert (value.shape, log_det.shape) == ((2, 5, 4), (2, 5))


@pytest.mark.parametrize("row", DISCRETE)
def test_posteriors_sample_and_score_on_the_meta_device(row: str) -> None:
    posterior = DISCRETE[row].posterior(4, 3).to("meta")
    q = posterior(torch.randn(5, 3, device="meta"))
    assert q.rsample((2,)).shape == (2, 5, 4)
    assert q.log_prob(torch.randn(5, 4, device="meta")).shape == (5,)


def test_networks_and_likelihoods_hold_nothing_that_the_meta_device_could_lose() -> None:
    for module in (
        vf.networks.ConvEncoder((1, 28, 28)),
        vf.networks.ConvDecoder(4, (1, 28, 28)),
        vf.networks.MLPEncoder((1, 28, 28), hidden_dims=(4,)),
    ):
        names = set(module.state_dict())
        assert {name for name, _ in (*module.named_parameters(), *module.named_buffers())} <= names


def test_constants_keep_their_values_whatever_the_module_goes_through() -> None:
    constant = Constant(torch.tensor([[True, False]]))
    module = torch.nn.Sequential(constant, torch.nn.Linear(2, 1)).double().to("meta").to_empty(device="cpu").half()
    assert torch.equal(constant.value, torch.tensor([[1.0, 0.0]], dtype=torch.float16))
    assert not [name for name in module.state_dict() if name.startswith("0.")]


@pytest.mark.parametrize("row", params(row for row in FLOWS if ":" in row or row in DISCRETE))
def test_samples_have_no_graph(row: str) -> None:
    q = FLOWS[row].posterior(4, 3)(torch.randn(5, 3))
    assert not q.sample((2,)).requires_grad
    z, log_q = q.rsample_with_log_prob()
    assert z.requires_grad
    assert log_q.requires_grad
