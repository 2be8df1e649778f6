import math

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import FLOWS, NAMES
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

SHAPE = (1, 4, 4)
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7


pytestmark = pytest.mark.usefixtures("clean_param_store")


def make(flow="none", likelihood=None, **options):
    likelihood = likelihood or BernoulliLikelihood()
    return vf.VAE(
        MLPEncoder(SHAPE, hidden_dims=(8,), context_dim=6),
        MLPDecoder(3, SHAPE, hidden_dims=(8,), parameters_per_pixel=likelihood.parameters_per_pixel),
        FLOWS[flow].posterior(3, 6),
        likelihood,
        **options,
    )


@pytest.mark.parametrize("flow", NAMES)
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_pyro_computes_the_same_elbo_for_the_same_draws(flow, particles, beta):
    vae, x = make(flow).double(), torch.rand(7, *SHAPE, dtype=torch.float64)
    reseed(1)
    expected = vae.elbo(x, num_particles=particles, beta=beta).elbo.sum()
    reseed(1)
    estimator = Trace_ELBO(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
    assert -estimator.loss(vae.model, vae.guide, x, beta) == pytest.approx(float(expected.detach()), rel=1e-9)


def test_pyro_trains_every_parameter():
    vae, x = make("planar"), torch.rand(7, *SHAPE)
    before = {name: parameter.detach().clone() for name, parameter in vae.named_parameters()}
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert not [name for name, parameter in vae.named_parameters() if torch.equal(parameter, before[name])]


def test_two_models_under_one_name_are_refused_instead_of_one_not_trained():
    x = torch.rand(2, *SHAPE)
    make().model(x)
    with pytest.raises(InvalidInputError, match="clear_param_store"):
        make().model(x)


class LinearGaussian(Likelihood):
    """x ~ N(parameters, 1): with linear maps around it, everything about the VAE is known in closed form."""

    def __init__(self):
        super().__init__(parameters_per_pixel=1, event_dim=1)

    def forward(self, parameters):
        return Normal(parameters, 1.0).to_event(1)

    def check(self, x):
        pass


def linear_gaussian_vae():
    encoder = nn.Linear(3, 5).double()
    decoder = nn.Linear(2, 3).double()
    return vf.VAE(encoder, decoder, vf.AmortizedPosterior(2, 5, "none").double(), LinearGaussian()).double()


def test_elbo_agrees_with_its_closed_form():
    vae, x = linear_gaussian_vae(), torch.randn(4, 3, dtype=torch.float64)
    particles = 20_000
    with torch.no_grad():
        terms = vae.elbo(x, num_particles=particles)
        base = vae.posterior.base(vae.encoder(x))
        kl = 0.5 * (base.scale**2 + base.loc**2 - 1 - 2 * base.scale.log()).sum(-1)
        weight = vae.decoder.weight
        spread = (base.scale**2 @ (weight**2).sum(0)[:, None]).squeeze(-1)
        residual = ((x - vae.decoder(base.loc)) ** 2).sum(-1)
        log_likelihood = -0.5 * (residual + spread) - 1.5 * math.log(2 * math.pi)
        draws = vae.elbo(x.expand(particles, 4, 3)).elbo
    error = draws.std(0) / particles**0.5
    assert ((terms.elbo - (log_likelihood - kl)).abs() < STANDARD_ERRORS * error).all()
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)
    assert ((terms.kl - kl).abs() < STANDARD_ERRORS * error + 0.05).all()


def test_importance_weighted_bound_reaches_the_evidence_in_chunks():
    vae, x = linear_gaussian_vae(), torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        weight = vae.decoder.weight
        evidence = MultivariateNormal(vae.decoder.bias, weight @ weight.mT + torch.eye(3)).log_prob(x)
        bound = vae.importance_weighted_bound(x, 50_000, chunk_size=9_999)
        elbo = vae.elbo(x, num_particles=2_000).elbo
        repeats = torch.stack([vae.importance_weighted_bound(x, 50_000) for _ in range(8)])
    assert ((bound - evidence).abs() < 8 * repeats.std(0) + 1e-3).all()  # t with 7 degrees of freedom: 1e-4 per entry
    assert (elbo < evidence).all()
    reseed(3)
    whole = vae.importance_weighted_bound(x, 6)
    reseed(3)
    torch.testing.assert_close(vae.importance_weighted_bound(x, 6, chunk_size=6), whole)


def test_shapes_of_everything():
    vae, x = make("planar"), torch.rand(5, *SHAPE)
    assert vae.encode(x).rsample((2,)).shape == (2, 5, 3)
    assert vae.decode(torch.zeros(2, 5, 3)).batch_shape == (2, 5)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.generate(3).shape == (3, *SHAPE)
    assert vae.elbo(x).kl.shape == (5,)
    assert vae.importance_weighted_bound(x, 4).shape == (5,)


def test_grey_levels():
    vae = make("planar", CategoricalLikelihood(levels=16))
    x = torch.randint(0, 16, (5, *SHAPE)) / 15
    assert vae.elbo(x).elbo.shape == (5,)
    assert vae.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("as_callable", [False, True])
def test_other_priors(as_callable):
    prior = Normal(torch.full((3,), 2.0), 0.5).to_event(1)
    vae, x = make("none", prior=(lambda: prior) if as_callable else prior), torch.rand(5, *SHAPE)
    q = vae.encode(x)
    reseed(4)
    kl = vae.elbo(x).kl
    reseed(4)
    z = q.rsample((1,))
    torch.testing.assert_close(kl, (q.log_prob(z) - prior.log_prob(z))[0])


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.zeros(2, *SHAPE, dtype=torch.uint8), "floating-point"),
        (torch.full((2, *SHAPE), float("nan")), "finite"),
        (torch.full((2, *SHAPE), 1.5), r"\[0, 1\]"),
    ],
)
def test_bad_images_are_refused(x, match):
    with pytest.raises(InvalidInputError, match=match):
        make().elbo(x)


def test_bad_arguments_are_refused():
    vae, x = make(), torch.rand(2, *SHAPE)
    for call in (
        lambda: vae.elbo(x, num_particles=0),
        lambda: vae.importance_weighted_bound(x, 4, chunk_size=0),
        lambda: vae.renyi_bound(x, 0.5, 0),
        lambda: vae.generate(0),
    ):
        with pytest.raises(InvalidInputError, match="positive integer"):
            call()
    with pytest.raises(InvalidInputError, match="alpha: expected a finite number"):
        vae.renyi_bound(x, math.inf, 4)
    with pytest.raises(UnknownNameError, match="Did you mean 'path'"):
        vae.elbo(x, gradient="pathwise")
    with pytest.raises(InvalidInputError, match=r"\(\*batch, 3\)"):
        vae.decode(torch.zeros(2, 4))
    with pytest.raises(InvalidInputError, match="one batch dimension"):
        vae.model(torch.rand(2, 2, *SHAPE))
    vae.posterior = vf.AmortizedPosterior(3, 9, "none")
    with pytest.raises(InvalidInputError, match=r"\(\*batch, 9\)"):
        vae.elbo(x)


@pytest.mark.parametrize("flow", NAMES)
def test_mixed_precision_keeps_densities_in_full_precision(flow):
    vae, x = make(flow).eval(), torch.rand(7, *SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        terms = vae.elbo(x)
        q = vae.encode(x)
        z = q.rsample()
        inverse = q.log_prob(z.clone())
    assert terms.kl.dtype == torch.float32
    terms.elbo.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in vae.parameters())
    torch.testing.assert_close(inverse, q.log_prob(z), rtol=0, atol=1e-3)  # solves at 1e-5, there and back


def test_regularisation_counts_against_the_objective_but_not_the_bound():
    flow = vf.FFJORD(3, 6, hidden_dims=(8,), rank=2, regularizers=[vf.cnf.KineticEnergy(3.0)])
    vae = make()
    vae.posterior = vf.AmortizedPosterior(3, 6, flow)
    x = torch.rand(7, *SHAPE)
    reseed(1)
    terms = vae.elbo(x)
    assert terms.regularization is not None
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)
    torch.testing.assert_close(terms.objective, terms.elbo - terms.regularization)
    assert (terms.regularization > 0).all()
    reseed(1)
    loss = Trace_ELBO().loss(vae.model, vae.guide, x)
    assert -loss == pytest.approx(float(terms.objective.detach().sum()), rel=1e-5)
    assert vae.eval().elbo(x).regularization is None


OBJECTIVES = {
    "elbo": lambda vae, x, gradient: vae.elbo(x, 3, 0.7, gradient).elbo,
    "importance-weighted": lambda vae, x, gradient: vae.importance_weighted_bound(x, 3, 2, gradient),
    "renyi": lambda vae, x, gradient: vae.renyi_bound(x, 0.5, 3, gradient=gradient),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("flow", ["planar", "ffjord"])
@pytest.mark.filterwarnings("ignore::vae_flows.BiasedBoundWarning")
def test_path_gradients_change_what_the_encoder_learns_from_and_nothing_else(flow, objective):
    vae, x, results = make(flow).double(), torch.rand(7, *SHAPE, dtype=torch.float64), []
    for gradient in ("reparameterized", "path"):
        reseed(2)
        vae.zero_grad()
        value = OBJECTIVES[objective](vae, x, gradient)
        value.sum().backward()
        gradients = [torch.cat([p.grad.flatten() for p in part.parameters()]) for part in (vae.decoder, vae.encoder)]
        results.append([value, *gradients])
    (value, of_decoder, of_encoder), (path_value, path_of_decoder, path_of_encoder) = results
    torch.testing.assert_close(path_value, value)
    torch.testing.assert_close(path_of_decoder, of_decoder)
    assert path_of_encoder.isfinite().all()
    assert (path_of_encoder - of_encoder).abs().max() > 1e-3


def test_bounds_of_every_order_are_one_family():
    vae, x, values = make("planar").double(), torch.rand(7, *SHAPE, dtype=torch.float64), []
    for bound in (
        lambda: vae.renyi_bound(x, 1.0, 5),
        lambda: vae.elbo(x, 5).elbo,
        lambda: vae.renyi_bound(x, 0.0, 5, chunk_size=5),
        lambda: vae.importance_weighted_bound(x, 5),
    ):
        reseed(3)
        values.append(bound())
    torch.testing.assert_close(values[0], values[1])
    assert torch.equal(values[2], values[3])
    assert (values[2] > values[0]).all()


def test_path_gradients_leave_those_of_regularisers_alone():
    flow = vf.FFJORD(3, 6, hidden_dims=(8,), rank=2, regularizers=[vf.cnf.KineticEnergy(3.0)])
    vae = make()
    vae.posterior = vf.AmortizedPosterior(3, 6, flow)
    x, results = torch.rand(7, *SHAPE), []
    for gradient in ("reparameterized", "path"):
        reseed(1)
        vae.zero_grad()
        regularization = vae.elbo(x, 2, gradient=gradient).regularization
        regularization.sum().backward()
        results.append([regularization, *(p.grad for p in flow.parameters() if p.grad is not None)])
    assert len(results[0]) > 1
    for ordinary, path in zip(*results, strict=True):
        torch.testing.assert_close(path, ordinary)
