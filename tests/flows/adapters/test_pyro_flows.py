from __future__ import annotations

import pytest
import torch
from pyro.distributions import transforms as pyro_transforms

import vae_flows as vf
from tests.flows.adapters.lent_parameters import check_lent_parameters
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import PyroFlow
from vae_flows.flows.adapters.pyro import pyro_families
from vae_flows.transforms import InverseTransform

D, C, B = 4, 3, 5
EXACT = 1e-12  # the same computation


@pytest.mark.parametrize("family", pyro_families())
def test_value_and_log_det_are_pyros(family: str) -> None:
    reseed()
    flow = PyroFlow(D, C, family, num_layers=1)
    reseed()
    theirs = getattr(pyro_transforms, f"conditional_{family}")(D, C)
    context, z = torch.randn(B, C), torch.randn(7, B, D)
    transform = theirs.condition(context)
    expected = transform(z)
    log_det = transform.log_abs_det_jacobian(z, expected)
    if family == "spline":  # which is one of numbers for Pyro
        log_det = log_det.sum(-1)
    y, ours = flow(context).forward_with_log_det(z)
    torch.testing.assert_close(y, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(ours, log_det.expand(7, B), rtol=EXACT, atol=EXACT)
    x, log_det = flow(context).inverse_with_log_det(y)
    torch.testing.assert_close(x, z, rtol=1e-3, atol=1e-3)  # float32, and a series of eight terms


def test_the_density_orientation_is_the_inverse() -> None:
    flow = PyroFlow(D, C, "affine_autoregressive", num_layers=2).double()
    context, z = torch.randn(B, C, dtype=torch.float64), torch.randn(B, D, dtype=torch.float64)
    y, log_det = flow(context).forward_with_log_det(z)
    flow.orientation = "density"
    assert isinstance(flow(context), InverseTransform)
    x, minus_log_det = flow(context).forward_with_log_det(y)
    torch.testing.assert_close(x, z)
    torch.testing.assert_close(minus_log_det, -log_det)


@pytest.mark.parametrize(("orientation", "evaluations"), [("sampling", 1), ("density", D + 1)])
def test_drawing_and_scoring_evaluates_each_network_once(orientation: str, evaluations: int) -> None:
    posterior = vf.AmortizedPosterior(
        D, C, "pyro:affine_autoregressive", num_layers=2, hidden_dims=(8,), orientation=orientation
    )
    counts = [0, 0]
    for index, layer in enumerate(posterior.get_submodule("flow.layers").children()):

        def note(*_: object, index: int = index) -> None:
            counts[index] += 1

        layer.get_submodule("nn").register_forward_hook(note)
    posterior(torch.randn(B, C)).rsample_with_log_prob((3,))
    assert counts == [evaluations, evaluations]


def test_coupling_layers_change_all_components() -> None:
    flow = PyroFlow(D, C, "affine_coupling", num_layers=2)
    z = torch.randn(B, D)
    changed = (flow(torch.randn(B, C))(z).flip(-1) - z).abs().amax(0)
    assert (changed > 1e-4).all()


def test_names_and_repr() -> None:
    posterior = vf.AmortizedPosterior(D, C, "pyro:radial", num_layers=2)
    assert posterior.flow_name == "pyro:radial"
    assert f"latent_dim={D}, context_dim={C}, name='pyro:radial', orientation='sampling'" in repr(posterior.flow)


def test_unknown_names_have_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"flow of Pyro: .*got 'plannar'. Did you mean 'planar'"):
        vf.make_flow("pyro:plannar", D, C)
    with pytest.raises(UnknownNameError, match="got 'generalized_channel_permute'"):  # of images, not of vectors
        vf.make_flow("pyro:generalized_channel_permute", D, C)
    with pytest.raises(UnknownNameError, match="Did you mean 'pyro:planar'"):
        vf.make_flow("pyr:planar", D, C)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("planar", {"hidden": 3}, r"flow 'pyro:planar' does not take these options .*'hidden'"),
        ("affine_coupling", {"hidden": 3}, "does not take these options"),  # Pyro itself tells when it conditions
        ("affine_autoregressive", {"hidden_dims": (2,)}, "Hidden dimension must not be less"),
        ("matrix_exponential", {"normalization": "weight"}, "Normalization is currently not implemented"),
        ("spline", {"order": "cubic"}, "'cubic' was found"),
        ("affine_coupling", {"dim": -2}, "does not take these options"),
        ("planar", {"num_layers": 0}, "pyro:planar num_layers: expected a positive integer, got 0"),
        ("planar", {"orientation": "both"}, "PyroFlow orientation: expected one of density, sampling"),
    ],
)
def test_wrong_options_are_told_when_the_flow_is_made(family: str, options: dict, message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        vf.make_flow(f"pyro:{family}", D, C, **options)


@pytest.mark.parametrize("family", pyro_families())
def test_a_transform_keeps_the_parameters_that_its_flow_was_lent(family: str) -> None:
    reseed()
    check_lent_parameters(PyroFlow(D, C, family).eval(), torch.randn(B, C), 0.3 * torch.randn(B, D))
