"""Regularisation and work are in the terms of a bound, and wrong arguments are told apart."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributions as td
from torch import Tensor

import vae_flows as vf
from tests.objectives.problems import C, D, close
from tests.seeds import reseed
from tests.small_flows import FLOWS, moved
from vae_flows.distributions import draw_from
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.objectives import elbo, importance_weighted_bound, renyi_bound, renyi_terms


def test_wrong_arguments_are_told_apart() -> None:
    q = td.Normal(torch.zeros(4), 1.0)

    def score(z: Tensor) -> Tensor:
        return -z.square()

    with pytest.raises(UnknownNameError, match="gradient: expected one of path, reparameterized, got 'pathwise'"):
        elbo(score, score, q, gradient="pathwise")
    for alpha in (math.inf, math.nan, "1", True):
        with pytest.raises(InvalidInputError, match="alpha: expected a finite number"):
            renyi_bound(score, q, alpha, 3)
    with pytest.raises(InvalidInputError, match="num_particles: expected a positive integer, got 0"):
        elbo(score, score, q, 0)
    with pytest.raises(InvalidInputError, match="num_particles: expected a positive integer, got 0"):
        importance_weighted_bound(score, q, 0)
    with pytest.raises(InvalidInputError, match="chunk_size: expected a positive integer, got 0"):
        renyi_bound(score, q, 0.5, 3, chunk_size=0)
    with pytest.raises(InvalidInputError, match=r"log_joint: expected .* shape \(3,\), got shape \(3, 4\).*to_event"):
        renyi_bound(score, td.Independent(q, 1), 0.5, 3)
    with pytest.raises(InvalidInputError, match="log_prior: expected"):
        elbo(score, lambda z: score(z).sum(-1), q, 3)
    with pytest.raises(InvalidInputError, match="has_rsample"):
        elbo(score, score, td.Bernoulli(torch.full((4,), 0.5)))


@pytest.mark.parametrize("gradient", ["reparameterized", "path"])
@pytest.mark.parametrize("particles", [1, 3])
def test_regularisation_is_averaged_over_particles(particles: int, gradient: str) -> None:
    flow = moved(vf.FFJORD(D, C, hidden_dims=(6,), rank=2, regularizers=[vf.cnf.KineticEnergy(3.0)])).train()
    module, context = vf.AmortizedPosterior(D, C, flow).double(), torch.randn(5, C, dtype=torch.float64)
    reseed(3)
    drawn = draw_from(module(context), (particles,), with_score=gradient == "path")
    reseed(3)
    terms = elbo(lambda z: z.sum(-1), lambda z: z.sum(-1), module(context), particles, gradient=gradient)
    close(terms.regularization, drawn.regularization.mean(0), 1e-12)
    assert (terms.regularization > 0).all()
    reseed(3)
    again = renyi_terms(lambda z: z.sum(-1), lambda z: z.sum(-1), module(context), 1.0, particles, gradient=gradient)
    close(again.objective, terms.objective)
    exact = vf.AmortizedPosterior(D, C, flow="ffjord", amortization="bias", regularizers=[vf.cnf.KineticEnergy(3.0)])
    nonlinear = renyi_terms(lambda z: z.sum(-1), lambda z: z.sum(-1), exact.double()(context), 0.0, particles + 1)
    assert (nonlinear.regularization > 0).all()
    assert nonlinear.work.forward_evaluations > 0


def test_the_work_of_the_posterior_is_told() -> None:
    q = FLOWS["ffjord"].posterior(D, C)(torch.randn(5, C))
    terms, normal = (elbo(lambda z: z.sum(-1), lambda z: z.sum(-1), q) for q in (q, q.base_dist))
    assert (terms.work or pytest.fail("no work")).forward_evaluations > 0
    assert normal.work is None
