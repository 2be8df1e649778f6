from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.flows import IAFFlow
from vae_flows.flows.iaf import START_LOGIT, MaskedAutoregressiveNetwork, MaskedLinear

GOLDEN = 1e-10


@pytest.mark.parametrize(("latent_dim", "num_hidden"), [(1, 1), (2, 1), (5, 1), (5, 3)])
def test_outputs_depend_on_exactly_the_earlier_components(latent_dim: int, num_hidden: int) -> None:
    network = MaskedAutoregressiveNetwork(latent_dim, 16, num_hidden).double()
    features = torch.randn(16, dtype=torch.float64)
    jacobians = torch.autograd.functional.jacobian(
        lambda z: network(z, features), torch.randn(latent_dim, dtype=torch.float64)
    )
    expected = torch.ones(latent_dim, latent_dim).tril(-1).bool()
    for jacobian in jacobians:
        assert torch.equal(jacobian != 0, expected)


@pytest.mark.parametrize("latent_dim", [1, 4])
def test_every_component_depends_on_the_context(latent_dim: int) -> None:
    network = MaskedAutoregressiveNetwork(latent_dim, 16, 1)
    z = torch.randn(latent_dim)
    outputs = [torch.cat(network(z, torch.randn(16))) for _ in range(2)]
    assert (outputs[0] != outputs[1]).all()


def test_narrow_networks_stay_autoregressive() -> None:
    network = MaskedAutoregressiveNetwork(8, 3, 1).double()
    features, z = torch.randn(3, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    for jacobian in torch.autograd.functional.jacobian(lambda z: network(z, features), z):
        assert torch.equal(jacobian.triu(), torch.zeros_like(jacobian))


def test_masks_follow_the_module_but_stay_out_of_its_state() -> None:
    flow = IAFFlow(4, 3, hidden_dim=8).double()
    masks = [module.mask for module in flow.modules() if isinstance(module, MaskedLinear)]
    assert all(mask.dtype == torch.float64 for mask in masks)
    assert not any("mask" in name for name in flow.state_dict())


def load_reference(flow: IAFFlow, values: dict[str, Tensor]) -> None:
    """Copy the reference's masked weights; its degrees differ from this library's, so the masks are opened."""
    flow.features.weight.copy_(torch.eye(16))
    flow.features.bias.zero_()
    for k, network in enumerate(flow.networks):
        heads = [[values[f"{name}_{kind}_{k}"] for name in ("mean", "gate")] for kind in ("weight", "bias")]
        weights = (values[f"in_weight_{k}"], values[f"hidden_weight_{k}"], torch.cat(heads[0], dim=1))
        biases = (values[f"in_bias_{k}"], values[f"hidden_bias_{k}"], torch.cat(heads[1]))
        layers = [module for module in network.modules() if isinstance(module, MaskedLinear)]
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            layer.mask.fill_(1)
            layer.weight.copy_(weight.mT)
            layer.bias.copy_(bias)


def test_agrees_with_the_reference(golden: Callable[[str], dict[str, Tensor]]) -> None:
    values = golden("iaf")
    flow = IAFFlow(8, 16, num_layers=3, hidden_dim=16, forget_bias=float(values["forget_bias"])).double()
    with torch.no_grad():
        load_reference(flow, values)
        y, log_det = flow(values["context"]).forward_with_log_det(values["z0"])
    torch.testing.assert_close(y, values["zK"], rtol=0, atol=GOLDEN)
    torch.testing.assert_close(log_det, values["log_abs_det"], rtol=0, atol=GOLDEN)


def test_large_forget_bias_starts_at_the_identity() -> None:
    z = torch.randn(3, 4)
    transform = IAFFlow(4, 5, num_layers=2, hidden_dim=16, forget_bias=30.0)(torch.randn(3, 5))
    y, log_det = transform.forward_with_log_det(z)
    torch.testing.assert_close(y, z.flip(-1))
    torch.testing.assert_close(log_det, torch.zeros(3))


@pytest.mark.parametrize("forget_bias", [-1.0, 0.0, 1.0, 2.5, 4.0])
def test_a_fresh_gate_is_open_as_the_start_says_or_a_larger_forget_bias(forget_bias: float) -> None:
    for network in IAFFlow(4, 5, num_layers=2, hidden_dim=16, forget_bias=forget_bias).networks:
        assert isinstance(network, MaskedAutoregressiveNetwork)
        mean, logits = network.output.bias.chunk(2)
        assert not mean.any()
        torch.testing.assert_close(logits + forget_bias, torch.full((4,), max(START_LOGIT, forget_bias)))


@pytest.mark.parametrize("size", ["num_layers", "hidden_dim", "num_hidden"])
def test_sizes_are_checked(size: str) -> None:
    with pytest.raises(InvalidInputError, match=f"IAFFlow {size}: expected a positive integer, got 0"):
        IAFFlow(4, 3, **{size: 0})
