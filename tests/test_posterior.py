import pyro
import pytest
import torch
from pyro.distributions import ConditionalTransformModule, Normal
from pyro.distributions.transforms import conditional_planar

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import FLOWS, NAMES
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import IdentityFlow


def posterior(flow, **options):
    reseed()
    return FLOWS[flow].posterior(4, 6, **options)


@pytest.mark.parametrize("flow", NAMES)
def test_shapes_and_dtype(flow):
    q = posterior(flow).double()(torch.randn(5, 6, dtype=torch.float64))
    assert (q.batch_shape, q.event_shape) == ((5,), (4,))
    z, log_q = q.rsample_with_log_prob((3,))
    assert (z.shape, log_q.shape, z.dtype, log_q.dtype) == ((3, 5, 4), (3, 5), torch.float64, torch.float64)
    assert q.log_prob(z[0]).shape == (5,)
    assert q.expand((7, 5)).rsample().shape == (7, 5, 4)


@pytest.mark.parametrize("flow", NAMES)
def test_density_of_a_value_not_drawn_before(flow):
    module = posterior(flow).double().eval()
    context, z = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    q = module(context)
    z, log_q = q.rsample_with_log_prob()
    fresh = module(context).log_prob(z.clone())
    torch.testing.assert_close(fresh, log_q, rtol=0, atol=1e-3)  # forward and reverse solves at tolerance 1e-5


def test_drawing_and_scoring_is_one_solve():
    module = posterior("ffjord")
    q = module(torch.randn(5, 6))
    z = q.rsample((2,))
    work = module.last_solve
    q.log_prob(z)
    assert module.last_solve == work
    with pyro.plate("data", 5):
        pyro.sample("z", q)


def test_density_integrates_to_one():
    reseed()
    module = vf.AmortizedPosterior(1, 2, "ffjord", hidden_dims=(8,), amortization="bias").double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    z = torch.linspace(-30, 30, 4001, dtype=torch.float64).reshape(-1, 1, 1)
    with torch.no_grad():
        density = module(torch.randn(3, 2, dtype=torch.float64)).log_prob(z.expand(-1, 3, 1)).exp()
    torch.testing.assert_close(torch.trapezoid(density, dx=60 / 4000, dim=0), torch.ones(3).double(), rtol=0, atol=1e-3)


def test_without_a_flow_it_is_the_gaussian_of_the_heads():
    module = posterior("none", variance_bounds=(0.01, 7.0))
    context = torch.randn(5, 6)
    base = module.base(context)
    z = torch.randn(5, 4)
    torch.testing.assert_close(module(context).log_prob(z), Normal(base.loc, base.scale).log_prob(z).sum(-1))
    module.gaussian.bias.data[4:] = 50.0
    assert torch.equal(module.base(context).scale, torch.full((5, 4), 7.0).sqrt())


def test_variance_never_underflows_to_zero():
    module = posterior("none")
    module.gaussian.bias.data[4:] = -1e4
    assert torch.isfinite(module(torch.zeros(2, 6)).rsample_with_log_prob()[1]).all()


def test_pyros_conditional_transforms_and_plain_callables_are_flows_too():
    transform = conditional_planar(4, 6)
    assert isinstance(transform, ConditionalTransformModule)
    module = vf.AmortizedPosterior(4, 6, transform.condition)
    assert module(torch.randn(5, 6)).rsample_with_log_prob((2,))[1].shape == (2, 5)
    assert module.last_solve is None
    assert module.flow_name == "condition"


def test_wrong_use_is_told_apart():
    with pytest.raises(UnknownNameError, match="Did you mean 'ffjord'"):
        vf.AmortizedPosterior(4, 6, "fjord")
    with pytest.raises(InvalidInputError, match="does not take these options"):
        vf.AmortizedPosterior(4, 6, "planar", layers=3)
    with pytest.raises(InvalidInputError, match="latent_dim 4 and context_dim 6"):
        vf.AmortizedPosterior(4, 6, IdentityFlow(3, 6))
    with pytest.raises(InvalidInputError, match="flow options"):
        vf.AmortizedPosterior(4, 6, IdentityFlow(4, 6), num_layers=2)
    with pytest.raises(InvalidInputError, match="variance_bounds"):
        vf.AmortizedPosterior(4, 6, "none", variance_bounds=(2.0, 1.0))
    with pytest.raises(InvalidInputError, match=r"\(\*batch, 6\)"):
        posterior("none")(torch.zeros(5, 7))
    with pytest.raises(InvalidInputError, match="callable"):
        vf.AmortizedPosterior(4, 6, 3)
