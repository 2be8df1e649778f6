"""Inference mode, in which Lightning validates: the values are those under no_grad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

import vae_flows as vf
from tests.seeds import reseed
from tests.small_flows import FLOWS, moved, params
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, JacobianNorm, KineticEnergy, MLPDynamics
from vae_flows.data import Images
from vae_flows.distributions import rsample_with_score
from vae_flows.evaluation import evaluate
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

D, C, B, S = 3, 4, 5, 2
ROUNDING = 1e-10  # the same operations; a copy may be summed in another order

Compute = Callable[[], tuple[Tensor, ...]]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def same_as_without_gradients(compute: Compute) -> None:
    """Compare what is computed in inference mode with what is computed under no_grad, with the same noise."""
    results = []
    for mode in (torch.no_grad, torch.inference_mode):
        reseed(3)
        with mode():
            results.append(compute())
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
        assert not got.requires_grad


def everything_of(posterior: Any, context: Tensor, z: Tensor) -> Compute:
    """Return what a posterior has to offer, as one function."""

    def compute() -> tuple[Tensor, ...]:
        q = posterior(context)
        return (*q.rsample_with_log_prob((S,)), *q.rsample_with_score((S,)), q.log_prob(z), q.log_prob(q.rsample()))

    return compute


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("flow", params(FLOWS))
def test_every_flow_has_its_values(flow: str, training: bool) -> None:
    posterior = moved(FLOWS[flow].posterior(D, C)).train(training)
    same_as_without_gradients(everything_of(posterior, normal(B, C), 0.3 * normal(S, B, D)))


@pytest.mark.parametrize("flow", params(FLOWS))
def test_parameters_made_in_inference_mode_serve_inside_and_outside(flow: str) -> None:
    reseed(7)  # some of Pyro's flows draw a permutation when they are made, which is no parameter
    ordinary = moved(FLOWS[flow].posterior(D, C))
    context, z = normal(B, C), 0.3 * normal(S, B, D)
    reseed(7)
    with torch.inference_mode():
        made_inside = FLOWS[flow].posterior(D, C).double().eval()
        for parameter, value in zip(made_inside.parameters(), ordinary.parameters(), strict=True):
            parameter.copy_(value)
    assert all(parameter.is_inference() for parameter in made_inside.parameters())
    results = []
    for posterior, mode in (
        (ordinary, torch.no_grad),
        (made_inside, torch.no_grad),
        (made_inside, torch.inference_mode),
    ):
        reseed(3)
        with mode():
            results.append(everything_of(posterior, context, z)())
    for expected, outside, inside in zip(*results, strict=True):
        torch.testing.assert_close(outside, expected, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(inside, expected, rtol=0, atol=ROUNDING)


FIELDS: dict[str, Callable[[Tensor, nn.Module], Any]] = {
    "lambda": lambda matrix, network: lambda t, z: -z,
    "captured matrix": lambda matrix, network: lambda t, z: torch.tanh(z @ matrix),
    "captured network": lambda matrix, network: lambda t, z: network(z),
    "module": lambda matrix, network: Field(network),
    "stack of parts": lambda matrix, network: lambda t, z: torch.stack((z.sin() * matrix[0], z), 0).sum(0),
}


class Field(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.network(z) * (1 + t)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson", "brute_force"])
@pytest.mark.parametrize("field", FIELDS)
def test_ones_own_fields_have_their_trace(field: str, divergence: str) -> None:
    matrix, network = normal(D, D), nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, D)).double()
    z = normal(S, D)

    def compute() -> tuple[Tensor, ...]:
        # A copy: in inference mode one made there, as what an encoder returns.
        function = FIELDS[field](matrix.clone(), network)
        transform = ContinuousTransform(function, divergence=divergence)
        back = transform.evaluate_inverse(z.clone())
        return (*transform.evaluate(z.clone())[:3], back.x, back.log_det, *transform.forward_with_score(z, -z))

    same_as_without_gradients(compute)


def test_the_log_determinant_of_a_contraction_is_minus_its_dimension() -> None:
    transform, z = ContinuousTransform(lambda t, z: -z, divergence="exact"), normal(S, 2)
    with torch.inference_mode():
        log_det = transform.evaluate(z).log_det
    torch.testing.assert_close(log_det, torch.full_like(log_det, -2.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
@pytest.mark.parametrize("regularizer", [KineticEnergy(0.1), JacobianNorm(0.1)], ids=["kinetic", "jacobian"])
def test_regularisation_has_its_value(regularizer: Any, gradient: Any) -> None:
    network, z = nn.Linear(D, D).double(), normal(S, D)
    solver = vf.ODESolver(gradient=gradient)
    dynamics = moved(MLPDynamics(D, (6,)))

    def compute() -> tuple[Tensor, ...]:
        found = []
        for field in (Field(network), dynamics.condition()):
            transform = ContinuousTransform(field, regularizers=[regularizer], solver=solver)
            evaluation = transform.evaluate(z.clone())
            assert evaluation.regularization is not None
            found.extend((evaluation.log_det, evaluation.regularization))
        return tuple(found)

    same_as_without_gradients(compute)


def distributions() -> dict[str, Callable[[Tensor], Any]]:
    return {
        "Normal": lambda loc: Normal(loc, 2.0),
        "Independent": lambda loc: Independent(Normal(loc, 2.0), 1),
        "DiagonalNormal": lambda loc: vf.DiagonalNormal(loc, torch.ones_like(loc)),
        "StudentT": lambda loc: torch.distributions.StudentT(5.0, loc, 1.0),
        "transformed": lambda loc: TransformedDistribution(Normal(loc, 1.0), [TanhTransform()]),
    }


@pytest.mark.parametrize("name", distributions())
def test_scores_of_any_distribution(name: str) -> None:
    loc = normal(B, D)
    same_as_without_gradients(lambda: tuple(rsample_with_score(distributions()[name](loc.clone()), (S,))))


def small_vae(flow: str, prior: Any = None) -> vf.VAE:
    shape = (1, 2, 2)
    encoder, decoder = MLPEncoder(shape, (6,), context_dim=C), MLPDecoder(D, shape, (6,))
    vae = vf.VAE(encoder, decoder, FLOWS[flow].posterior(D, C), BernoulliLikelihood(), prior)
    return moved(vae)


PRIORS: dict[str, Callable[[], Any]] = {
    "standard": lambda: None,
    "continuous": lambda: ContinuousNormalizingFlow(MLPDynamics(D, (6,))),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("flow", ["planar", "iaf", "ffjord-low-rank", "pyro:affine_coupling"])
def test_bounds_of_a_model(flow: str, prior: str) -> None:
    vae = small_vae(flow, PRIORS[prior]())
    x = torch.rand(B, 1, 2, 2, dtype=torch.float64).round()

    def compute() -> tuple[Tensor, ...]:
        terms = vae.elbo(x, 2, gradient="path")
        bounds = [vae.importance_weighted_bound(x, 3, chunk_size=2), vae.renyi_bound(x, 0.5, 3)]
        return terms.elbo, terms.kl, *bounds, vae.reconstruct(x), vae.generate(2)

    same_as_without_gradients(compute)


def test_evaluation_of_a_model() -> None:
    vae = small_vae("ffjord-low-rank")
    images = Images(torch.randint(256, (8, 1), dtype=torch.uint8), (1, 2, 2), packed=True)
    expected = evaluate(vae, images, importance_samples=3)
    with torch.inference_mode():
        got = evaluate(vae, images, importance_samples=3)
    for name in ("negative_elbo", "kl", "negative_log_likelihood"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), abs=ROUNDING)


@pytest.mark.parametrize("flow", ["planar", "iaf", "ffjord-low-rank", "zuko:MAF"])
def test_training_goes_on_after_a_validation_in_inference_mode(flow: str) -> None:
    pytest.importorskip("zuko")
    vae = small_vae(flow)
    x = torch.rand(B, 1, 2, 2, dtype=torch.float64).round()
    gradients = []
    for validates in (False, True):
        if validates:
            with torch.inference_mode():
                vae.importance_weighted_bound(x, 2)
        vae.zero_grad()
        reseed(3)
        vae.elbo(x).elbo.sum().backward()
        gradients.append([parameter.grad for parameter in vae.parameters() if parameter.grad is not None])
    assert gradients[0]
    for without, after in zip(*gradients, strict=True):
        torch.testing.assert_close(after, without, rtol=0, atol=ROUNDING)


def gradients_of(log_q: Tensor, module: nn.Module) -> list[Tensor]:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(log_q.sum(), parameters, allow_unused=True), strict=True
        )
    ]


def assert_scores_and_draws_again(q: Any, drawn: Tensor, module: nn.Module) -> None:
    """Score values and draw with gradients, as where nothing was remembered from inference mode."""
    for value in (drawn, drawn.clone(), 0.3 * normal(*drawn.shape)):
        log_q = q.log_prob(value)
        gradients = gradients_of(log_q, module)  # which frees the graph, so that the next score remembers nothing
        again = q.log_prob(value.clone())
        torch.testing.assert_close(log_q, again, rtol=0, atol=ROUNDING)
        for got, expected in zip(gradients, gradients_of(again, module), strict=True):
            torch.testing.assert_close(got, expected, rtol=ROUNDING, atol=ROUNDING)
    z = q.rsample((S,))
    assert z.requires_grad
    assert any(gradient.any() for gradient in gradients_of(z, module))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("flow", params(FLOWS))
def test_a_distribution_used_in_inference_mode_serves_with_gradients_afterwards(flow: str, training: bool) -> None:
    posterior = moved(FLOWS[flow].posterior(D, C)).train(training)
    q, ordinary = posterior(normal(B, C)), 0.3 * normal(S, B, D)
    with torch.inference_mode():
        drawn = q.sample((S,))
        inside = q.log_prob(ordinary)
    with torch.no_grad():
        outside = q.log_prob(ordinary)
    assert inside.is_inference()
    assert not outside.is_inference()
    torch.testing.assert_close(outside, inside, rtol=0, atol=ROUNDING)
    assert_scores_and_draws_again(q, drawn, posterior)


@pytest.mark.parametrize("given", [False, True], ids=["drawn", "given"])
@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_a_regularised_transform_used_in_inference_mode_does_too(gradient: Any, given: bool) -> None:
    dynamics = moved(MLPDynamics(D, (6,)))
    with torch.inference_mode():
        probes = normal(1, S, D) if given else None
    transform = ContinuousTransform(
        dynamics.condition(),
        regularizers=[KineticEnergy(0.1), JacobianNorm(0.1)],
        solver=vf.ODESolver(gradient=gradient),
        probes=probes,
    )
    with torch.inference_mode():
        z = normal(S, D)
        inside = transform.evaluate(z)
    for value in (z, z.clone()):
        outside = transform.evaluate(value)
        assert outside.regularization is not None
        torch.testing.assert_close(outside.regularization, inside.regularization, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(outside.log_det, inside.log_det, rtol=0, atol=ROUNDING)
        loss = outside.log_det + outside.regularization
        assert any(gradient.any() for gradient in gradients_of(loss, dynamics))


@pytest.mark.parametrize("flow", ["planar", "ffjord-low-rank"])
def test_a_distribution_made_in_inference_mode_says_that_it_has_no_gradients(flow: str) -> None:
    posterior = moved(FLOWS[flow].posterior(D, C))
    with torch.inference_mode():
        q = posterior(normal(B, C))
    value = 0.3 * normal(B, D).requires_grad_()
    with pytest.raises(vf.InvalidInputError, match=r"outside torch\.inference_mode"):
        q.log_prob(value)
