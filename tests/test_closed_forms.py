"""Moments, entropies and divergences: exact without a flow, otherwise an error that names what estimates them."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import Normal as PyroNormal
from torch.distributions import Distribution, Independent, Laplace, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import ExpTransform

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.transforms import IdentityTransform

ROUNDING = 1e-12  # float64, a handful of operations


def gaussian() -> Independent:
    reseed(2)
    return Independent(Normal(torch.randn(3, 2).double(), torch.rand(3, 2).double() + 0.5), 1)


def forms(p: Independent) -> dict[str, Distribution]:
    """One Gaussian in every form that it has here."""
    loc, scale = p.mean, p.stddev
    diagonal = DiagonalNormal(loc, scale)
    return {
        "torch": p,
        "pyro": PyroNormal(loc, scale).to_event(1),
        "diagonal": diagonal,
        "none": FlowDistribution(diagonal, IdentityTransform(2, torch.Size([3]))),
    }


def flow_posterior(flow: str = "planar") -> FlowDistribution:
    return vf.AmortizedPosterior(2, 4, flow).double()(torch.randn(3, 4).double())


@pytest.mark.parametrize("form", forms(gaussian()))
@pytest.mark.parametrize("quantity", ["mean", "mode", "variance", "stddev", "entropy"])
def test_quantities_without_a_flow_are_those_of_the_gaussian(quantity: str, form: str):
    p = gaussian()
    ours, theirs = getattr(forms(p)[form], quantity), getattr(p, quantity)
    if quantity == "entropy":
        ours, theirs = ours(), theirs()
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("of", forms(gaussian()))
@pytest.mark.parametrize("against", forms(gaussian()))
def test_divergences_without_a_flow_are_those_of_gaussians(of: str, against: str):
    p = gaussian()
    q = Independent(Normal(torch.zeros(3, 2).double(), torch.full((3, 2), 2.0).double()), 1)
    exact = kl_divergence(p, q)
    torch.testing.assert_close(kl_divergence(forms(p)[of], forms(q)[against]), exact, rtol=ROUNDING, atol=ROUNDING)


def test_the_posterior_none_has_an_exact_divergence_from_a_standard_normal():
    q = flow_posterior("none")
    divergence = kl_divergence(q, PyroNormal(torch.zeros(2).double(), 1.0).to_event(1))
    exact = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(-1)
    torch.testing.assert_close(divergence, exact, rtol=ROUNDING, atol=ROUNDING)


def test_quantities_of_flows_name_what_estimates_them():
    q = flow_posterior()
    for quantity in ("mean", "variance", "stddev"):
        with pytest.raises(vf.NoClosedFormError, match=rf"{quantity} of FlowDistribution.*estimate_moments"):
            getattr(q, quantity)
    with pytest.raises(vf.NoClosedFormError, match=r"entropy of FlowDistribution.*estimate_entropy"):
        q.entropy()
    with pytest.raises(vf.NoClosedFormError, match=r"mode of FlowDistribution.*Maximise log_prob"):
        _ = q.mode


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "other",
    [
        DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()),
        Independent(Normal(torch.zeros(2).double(), 1.0), 1),
        TransformedDistribution(Independent(Normal(torch.zeros(2).double(), 1.0), 1), ExpTransform()),
        flow_posterior(),
    ],
    ids=["diagonal", "independent", "transformed", "flow"],
)
def test_divergences_of_flows_name_what_estimates_them(other: Distribution):
    q = flow_posterior()
    for pair in ((q, other), (other, q)):
        with pytest.raises(vf.NoClosedFormError, match=r"kl_divergence of FlowDistribution.*estimate_kl_divergence"):
            kl_divergence(*pair)


def test_one_map_of_two_gaussians_changes_no_divergence():
    q, base = flow_posterior(), DiagonalNormal(torch.zeros(3, 2).double(), torch.ones(3, 2).double())
    assert torch.equal(kl_divergence(q, FlowDistribution(base, q.transforms)), kl_divergence(q.base_dist, base))


def test_other_independent_distributions_have_no_closed_form():
    laplace = Independent(Laplace(torch.zeros(2), 1.0), 1)
    with pytest.raises(vf.NoClosedFormError, match="estimate_kl_divergence"):
        kl_divergence(DiagonalNormal(torch.zeros(2), torch.ones(2)), laplace)


def test_a_distribution_shows_what_it_is_made_of():
    assert repr(flow_posterior()).startswith("FlowDistribution(DiagonalNormal → ")
    assert repr(flow_posterior()).endswith(", batch (3,), event (2,))")
