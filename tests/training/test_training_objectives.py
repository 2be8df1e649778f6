from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.seeds import reseed
from vae_flows.cnf import KineticEnergy
from vae_flows.errors import BiasedBoundWarning, InvalidInputError, UnknownNameError
from vae_flows.training import TrainingResult, TrainingSettings
from vae_flows.training.objectives import OBJECTIVES
from vae_flows.training.rows import make_row
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]

CHEAP = {"hidden_dims": (6,), "amortization": "bias"}


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"objective": "beta"}, "objective_options beta: expected a finite number above 0.0, got None"),
        (
            {"objective": "beta", "objective_options": {"beta": 0.0}},
            "beta: expected a finite number above 0.0, got 0.0",
        ),
        (
            {"objective": "beta", "objective_options": {"beta": "4"}},
            "beta: expected a finite number above 0.0, got '4'",
        ),
        ({"objective": "beta", "objective_options": {"betta": 4}}, r"got 'betta'\. Did you mean 'beta'"),
        ({"objective": "renyi", "num_particles": 3}, "objective_options alpha: expected a finite number, got None"),
        (
            {"objective": "renyi", "num_particles": 3, "objective_options": {"alpha": math.nan}},
            "alpha: expected a finit",
        ),
        ({"objective": "importance_weighted"}, r"num_particles of objective .*: expected at least 2, got 1. Of one it"),
        (
            {"objective": "renyi", "objective_options": {"alpha": 0.5}},
            "num_particles of objective 'renyi': expected at",
        ),
        ({"objective": "importance_weighted", "num_particles": 0}, "num_particles: expected an integer of at least 1"),
        ({"objective_options": {"beta": 4.0}}, "objective_options: expected none beside 'elbo', got 'beta'"),
    ],
)
def test_what_an_objective_does_not_take_is_refused(settings: dict[str, Any], pattern: str):
    with pytest.raises(InvalidInputError, match=pattern):
        TrainingSettings(**settings)


def test_an_unknown_objective_is_refused():
    wrong: Any = "importance-weighted"
    with pytest.raises(
        UnknownNameError, match=r"objective: expected one of beta, .* Did you mean 'importance_weighted'"
    ):
        TrainingSettings(objective=wrong)


def test_the_weight_of_the_kl_term_rises_to_that_of_the_objective():
    settings = TrainingSettings(warmup_epochs=4, objective="beta", objective_options={"beta": 6.0})
    assert [settings.beta(epoch) for epoch in (1, 2, 4, 5)] == [1.5, 3.0, 6.0, 6.0]


@pytest.mark.parametrize(("name", "options"), [("importance_weighted", {}), ("renyi", {"alpha": 0.5})])
def test_nonlinear_bounds_take_the_exact_trace_where_it_is_cheap(make_vae: MakeVAE, name: str, options: dict[str, Any]):
    objective = make_row("objective", OBJECTIVES, name, options)
    vae, x = make_vae("ffjord", **CHEAP).train(), None
    vae.posterior.double()
    vae.double()
    reseed(2)
    x = vae.generate(5).bernoulli()
    seeds = []
    for seed in (3, 3):
        reseed(seed)
        seeds.append(objective.terms(vae, x, 3, 1.0, "reparameterized"))
    trained = seeds[0]
    reseed(3)
    evaluated = objective.terms(vae.eval(), x, 3, 1.0, "reparameterized")
    # The same draws of z, and no noise of a trace estimate in log q.
    assert trained.elbo.tolist() == pytest.approx(evaluated.elbo.tolist(), rel=1e-9)
    with pytest.warns(BiasedBoundWarning):
        objective.terms(make_vae("ffjord", hidden_dims=(6, 6, 6), rank=2).train(), x.float(), 3, 1.0, "path")


@pytest.mark.parametrize("name", ["elbo", "importance_weighted"])
def test_regularisers_and_the_work_of_solves_count_in_every_objective(make_vae: MakeVAE, fit: Fit, name: Any):
    results = []
    for weight in (1e-6, 10.0):
        vae = make_vae("ffjord", regularizers=(KineticEnergy(weight),), **CHEAP)
        results.append(fit(vae, objective=name, num_particles=2, learning_rate=0.05, warmup_epochs=0, max_epochs=3))
    free, regularized = results
    assert free.forward_evaluations is not None
    assert free.history[-1].train_loss is not None
    assert regularized.history[0].train_loss > free.history[0].train_loss


def test_the_loss_is_recorded_beside_the_bound(make_vae: MakeVAE, fit: Fit):
    record = fit(make_vae(), max_epochs=2, warmup_epochs=0).history[0]
    assert record.train_loss == pytest.approx(record.train_negative_elbo, rel=1e-6)  # single precision
    record = fit(make_vae(), max_epochs=2, warmup_epochs=0, objective="beta", objective_options={"beta": 3.0}).history[
        0
    ]
    assert record.train_loss == pytest.approx(record.train_negative_elbo + 2 * record.train_kl, rel=1e-5)
    several = {"num_particles": 5, "warmup_epochs": 0, "max_epochs": 2}
    record = fit(make_vae(), objective="importance_weighted", **several).history[0]
    assert record.train_loss < record.train_negative_elbo
    # Validation is the ELBO of one draw, whatever is trained.
    still = {**several, "learning_rate": 1e-30}
    bounds = {fit(make_vae(), **still).best_validation_negative_elbo}
    bounds.add(fit(make_vae(), objective="importance_weighted", **still).best_validation_negative_elbo)
    assert len(bounds) == 1
