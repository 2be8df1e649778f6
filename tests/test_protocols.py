"""Every module that maps a context to a reparameterised distribution is a posterior, wherever one is taken."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.distributions import Independent, LowRankMultivariateNormal, Normal, Poisson

import vae_flows as vf
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.data import from_arrays
from vae_flows.distributions import DiagonalNormal, FlowDistribution
from vae_flows.errors import CheckpointError, InvalidInputError
from vae_flows.evaluation import evaluate, simulation_based_calibration
from vae_flows.guides.sites import LocalSite
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.protocols import as_pyro, name_of, size_of, work_of
from vae_flows.training import ComputeSettings, TrainingSettings, train
from vae_flows.transforms import IdentityTransform

SHAPE = (1, 4, 4)
D, C = 2, 6
pytestmark = pytest.mark.usefixtures("clean_param_store")


class Foreign(nn.Module):
    """A posterior that keeps the protocol and offers nothing more."""

    def __init__(self, make):
        super().__init__()
        self.linear = nn.Linear(C, 2 * D)
        self.make = make

    def forward(self, context):
        loc, raw = self.linear(context).chunk(2, -1)
        return self.make(loc, raw.exp())


def flow(**options):
    return ContinuousNormalizingFlow(MLPDynamics(D, (4,)), **options)


POSTERIORS = {
    "library": lambda: vf.AmortizedPosterior(D, C, "planar", num_layers=1),
    "solved": lambda: vf.AmortizedPosterior(D, C, "ffjord", hidden_dims=(4,), rank=2),
    "torch Independent": lambda: Foreign(lambda loc, scale: Independent(Normal(loc, scale), 1)),
    "torch low rank": lambda: Foreign(lambda loc, scale: LowRankMultivariateNormal(loc, scale.unsqueeze(-1), scale)),
    "pyro Independent": lambda: Foreign(lambda loc, scale: dist.Normal(loc, scale).to_event(1)),
    "pyro MultivariateNormal": lambda: Foreign(
        lambda loc, scale: dist.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    ),
    "DiagonalNormal": lambda: Foreign(DiagonalNormal),
    "FlowDistribution": lambda: Foreign(
        lambda loc, scale: FlowDistribution(DiagonalNormal(loc, scale), IdentityTransform(D, loc.shape[:-1]))
    ),
    "CNF": lambda: flow(context_dim=C),
}

PRIORS = {
    "none": lambda: None,
    "torch": lambda: Independent(Normal(torch.zeros(D), 1.0), 1),
    "pyro": lambda: dist.Normal(torch.zeros(D), 1.0).to_event(1),
    "callable": lambda: lambda: Independent(Normal(torch.zeros(D), 1.0), 1),
    "CNF": flow,
    "FlowPrior": lambda: vf.FlowPrior(flow()),
}


def make(posterior, prior=None, decoder=None, **options):
    decoder = decoder or MLPDecoder(D, SHAPE, hidden_dims=(4,))
    return vf.VAE(MLPEncoder(SHAPE, (4,), context_dim=C), decoder, posterior, BernoulliLikelihood(), prior, **options)


def images(count=8):
    return (torch.rand(count, *SHAPE) > 0.5).float()


PAIRS = [(name, "none") for name in POSTERIORS] + [("torch Independent", name) for name in PRIORS if name != "none"]


@pytest.fixture(params=PAIRS, ids=[" + ".join(pair) for pair in PAIRS])
def vae(request):
    posterior, prior = request.param
    return make(POSTERIORS[posterior](), PRIORS[prior]())


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
def test_bounds_reach_every_parameter_of_the_posterior(vae, gradient):
    x = images()
    for value in (
        vae.elbo(x, 2, gradient=gradient).elbo,
        vae.eval().importance_weighted_bound(x, 3, gradient=gradient),
        vae.renyi_bound(x, 0.5, 3, gradient=gradient),
    ):
        assert value.shape == (8,)
        vae.zero_grad()
        value.sum().backward()
        without = [name for name, p in vae.posterior.named_parameters() if p.grad is None or not p.grad.any()]
        # Additive terms of a score, and heads that start at zero, may get no gradient at the start.
        assert len(without) < len(list(vae.posterior.parameters()))


def test_everything_else_that_a_vae_does(vae):
    x = images()
    q = vae.encode(x)
    assert (q.batch_shape, q.event_shape) == ((8,), (D,))
    assert vae.reconstruct(x).shape == x.shape
    assert vae.generate(3).shape == (3, *SHAPE)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    before = copy.deepcopy(vae.posterior.state_dict())
    assert all(isinstance(svi.step(x), float) for _ in range(2))
    assert any(not torch.equal(value, before[name]) for name, value in vae.posterior.state_dict().items())


def test_training_and_evaluation(vae, tmp_path):
    values = images(12).numpy()[:, 0]
    data = from_arrays(values[:6], values[6:9], values[9:])
    settings = TrainingSettings(max_epochs=1, batch_size=3, warmup_epochs=0)
    train(vae, data, settings, compute=ComputeSettings("cpu"), folder=tmp_path / "run", progress=False)
    resumed = TrainingSettings(max_epochs=2, batch_size=3, warmup_epochs=0)
    result = train(vae, data, resumed, compute=ComputeSettings("cpu"), folder=tmp_path / "run", resume=True)
    assert len(result.history) == 2
    assert evaluate(vae, data.test, importance_samples=3).num_images == 3


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_saved_model_takes_foreign_parts_again(name, tmp_path):
    vae = make(POSTERIORS[name]())
    vae.save_pretrained(tmp_path)
    is_foreign = name not in ("library", "solved", "CNF")
    if is_foreign:
        with pytest.raises(CheckpointError, match="posterior"):
            vf.VAE.from_pretrained(tmp_path)
    loaded = vf.VAE.from_pretrained(tmp_path, **({"posterior": POSTERIORS[name]()} if is_foreign else {}))
    for key, value in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


@pytest.mark.parametrize("name", POSTERIORS)
def test_guides(name):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    posterior = POSTERIORS[name]()
    site = LocalSite("z", (D,), torch.distributions.constraints.real_vector)
    guide = vf.FlowGuide(nn.Linear(1, C), posterior, site)
    x = torch.randn(5, 1)
    guide.check(model, x)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    assert isinstance(svi.step(x), float)
    if size_of(posterior) is None:
        with pytest.raises(InvalidInputError, match="LocalSite"):
            vf.FlowGuide(nn.Linear(1, C), posterior)


@pytest.mark.parametrize("name", POSTERIORS)
def test_calibration(name):
    posterior = POSTERIORS[name]().eval()
    result = simulation_based_calibration(
        lambda count: torch.randn(count, D),
        lambda theta: theta + torch.randn_like(theta),
        lambda x, count: posterior(torch.cat([x, x, x], -1)).sample((count,)),
        num_simulations=10,
        num_draws=9,
    )
    assert result.ranks.shape == (10, D)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda h: Normal(h[..., :D], 1.0), "Independent"),
        (lambda h: dist.Normal(h[..., :D], 1.0), "to_event"),
        (lambda h: Independent(Normal(torch.zeros(D), 1.0), 1), "batch shape"),
        (lambda h: Independent(Normal(h[..., : D + 1], 1.0), 1), r"event shape \(2,\)"),
        (lambda h: Independent(Poisson(h[..., :D].exp()), 1), "has_rsample"),
        (lambda h: h, "a distribution of PyTorch or Pyro"),
        (lambda h: None, "a distribution of PyTorch or Pyro"),
    ],
    ids=["no event", "no event in pyro", "no batch", "other size", "no rsample", "tensor", "nothing"],
)
def test_what_is_no_posterior_is_told(returned, message):
    vae, x = make(returned), images()
    for call in (vae.elbo, vae.encode, vae.guide, vae.reconstruct, lambda x: vae.importance_weighted_bound(x, 2)):
        with pytest.raises(InvalidInputError, match=message):
            call(x)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (Normal(torch.zeros(D), 1.0), "Independent"),
        (Independent(Normal(torch.zeros(5, D), 1.0), 1), "batch shape"),
        (lambda: torch.zeros(D), "a distribution"),
        (lambda: Independent(Normal(torch.zeros(D + 1), 1.0), 1), "event shape"),
    ],
)
def test_what_is_no_prior_is_told(prior, message):
    vae = make(POSTERIORS["library"](), prior)
    for call in (lambda: vae.elbo(images()), lambda: vae.generate(2), lambda: vae.model(images())):
        with pytest.raises(InvalidInputError, match=message):
            call()


def test_parts_that_disagree_are_told_when_they_are_put_together():
    with pytest.raises(InvalidInputError, match="latent_dim"):
        make(POSTERIORS["library"](), Independent(Normal(torch.zeros(D + 1), 1.0), 1))
    with pytest.raises(InvalidInputError, match="without a context"):
        make(POSTERIORS["library"](), flow(context_dim=C))
    with pytest.raises(InvalidInputError, match="posterior"):
        make(3)


def test_the_size_of_latents_is_asked_for_where_nothing_tells_it():
    plain = nn.Sequential(nn.Linear(D, 16), nn.Unflatten(-1, SHAPE))
    vae = make(POSTERIORS["DiagonalNormal"](), decoder=plain)
    with pytest.raises(InvalidInputError, match="latent_dim="):
        vae.generate(3)
    given = make(POSTERIORS["DiagonalNormal"](), decoder=plain, latent_dim=D)
    assert given.generate(3).shape == (3, *SHAPE)
    vae.model(images())
    assert vae.latent_dim == D


def test_offers_have_defaults():
    foreign, library = POSTERIORS["DiagonalNormal"](), POSTERIORS["solved"]()
    assert (name_of(foreign), size_of(foreign), work_of(foreign)) == ("Foreign", None, None)
    assert (name_of(library), size_of(library), work_of(library)) == ("ffjord", D, None)
    library(torch.randn(3, C)).rsample()
    assert work_of(library).forward_evaluations > 0


def test_conversion_to_pyro_keeps_the_density():
    q = Independent(Normal(torch.randn(3, D), torch.rand(3, D) + 0.1), 1)
    z = q.sample()
    converted = as_pyro(q)
    assert type(q) is Independent
    assert torch.equal(converted.log_prob(z), q.log_prob(z))
    assert converted.expand_by([4]).batch_shape == (4, 3)
