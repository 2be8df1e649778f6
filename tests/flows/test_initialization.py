from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vae_flows as vf
from tests.small_flows import DISCRETE
from vae_flows.benchmark.presets import PAPER, PRESETS
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.persistence.configuration import config_of

INITIALIZED = ("planar", "iaf", "sylvester-orthogonal", "sylvester-householder", "sylvester-triangular")
# Root mean squares for latents that are standard Gaussian: FFJORD's start moves them by 0.2 to 0.3 as well.
DISPLACEMENT = 0.3
# The log-determinants of one or two latent numbers average little.
LOG_DET_PER_LATENT = {1: 0.5, 2: 0.5}


def displacement(flow: vf.AmortizedFlow, scale: float) -> tuple[float, float]:
    """Return by how much draws and the log-determinant per latent number move, as root mean squares."""
    z = torch.randn(200, flow.latent_dim)
    with torch.no_grad():
        y, log_det = flow(scale * torch.randn(200, flow.context_dim)).forward_with_log_det(z)
    return float((y - z).square().mean().sqrt()), float((log_det / flow.latent_dim).square().mean().sqrt())


@pytest.mark.parametrize("name", INITIALIZED)
@pytest.mark.parametrize("latent_dim", [1, 2, 8, 64])
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 10.0, 100.0, 1000.0])
def test_fresh_flows_are_near_the_identity_whatever_the_size_of_the_context(
    name: str, latent_dim: int, scale: float
) -> None:
    moved, log_det = displacement(vf.make_flow(name, latent_dim, 96), scale)
    assert 0 < moved < DISPLACEMENT
    assert log_det < LOG_DET_PER_LATENT.get(latent_dim, 0.25)


@pytest.mark.parametrize("name", INITIALIZED)
def test_the_published_start_is_an_option_that_is_kept(name: str) -> None:
    flow = vf.make_flow(name, 64, 96, initialization="published")
    assert config_of(flow)["initialization"] == "published"
    assert "initialization='published'" in repr(flow)
    assert displacement(flow, 10.0)[0] > 2 * DISPLACEMENT
    state = vf.make_flow(name, 64, 96).state_dict()
    flow.load_state_dict(state)  # the two differ in nothing else


@pytest.mark.parametrize("name", INITIALIZED)
def test_an_unknown_start_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match="initialization: expected one of identity, published"):
        vf.make_flow(name, 4, 3, initialization="zero")


@pytest.mark.parametrize("name", [name for name in DISCRETE if name != "none"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_each_parameter_of_a_fresh_flow_learns(name: str, scale: float) -> None:
    flow = DISCRETE[name].build(6, 5)
    y, log_det = flow(scale * torch.randn(20, 5)).forward_with_log_det(torch.randn(20, 6))
    (y.sin().sum() + log_det.sum()).backward()
    for parameter_name, parameter in flow.named_parameters():
        gradient = parameter.grad
        assert isinstance(gradient, Tensor), parameter_name
        assert gradient.isfinite().all(), parameter_name
        assert gradient.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", [name for name in INITIALIZED if name.startswith("sylvester")])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_fresh_sylvester_flow_differs_between_contexts_in_all_but_what_is_fixed(name: str, scale: float) -> None:
    chain = vf.make_flow(name, 6, 5)(scale * torch.randn(2, 5))
    assert isinstance(chain, vf.transforms.ChainTransform)
    for layer in chain.parts:
        assert isinstance(layer, vf.transforms.SylvesterTransform)
        for one, other in (layer._R1, layer._R2, layer._b):
            assert (one - other).abs().max() > 0


@pytest.mark.parametrize("name", INITIALIZED)
def test_layers_of_a_fresh_flow_differ(name: str) -> None:
    transform = vf.make_flow(name, 6, 5).double()(torch.randn(5, dtype=torch.float64))
    assert isinstance(transform, vf.transforms.ChainTransform)
    z = torch.randn(6, dtype=torch.float64)
    with torch.no_grad():
        values = [part.forward_with_log_det(z)[0].norm() for part in transform.parts]
    moved = {float(value) for value in values if not torch.isclose(value, z.norm(), rtol=1e-12)}
    assert len(moved) == 4


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0, 100.0])
def test_a_fresh_iaf_inverts_values_far_from_its_own(scale: float) -> None:
    for latent_dim in (4, 32, 64):
        transform = vf.make_flow("iaf", latent_dim, 8).double()(torch.randn(8, dtype=torch.float64))
        y = scale * torch.randn(10, latent_dim, dtype=torch.float64)
        x, log_det = transform.inverse_with_log_det(y)
        reached, there = transform.forward_with_log_det(x)
        torch.testing.assert_close(reached, y, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(log_det, there, rtol=1e-8, atol=1e-8)


def test_advice_does_not_name_the_precision_that_is_in_use() -> None:
    closed = vf.transforms.InverseAutoregressiveTransform(lambda z: (z * 0, torch.full_like(z, -2000.0)), 2)
    for dtype, told in ((torch.float32, True), (torch.float64, False)):
        with pytest.raises(InvalidInputError) as caught:
            closed.inverse_with_log_det(torch.ones(2, dtype=dtype))
        assert ("use float64" in str(caught.value)) is told


@pytest.mark.parametrize("name", INITIALIZED)
def test_the_preset_that_stands_beside_the_literature_takes_its_start(name: str) -> None:
    for data in ("mnist-static", "frey-faces"):
        assert PAPER.settings(data, name, 0).posterior_options["initialization"] == "published"
        quick = PRESETS["quick"].settings(data, name, 0).posterior_options
        assert "initialization" not in quick
