"""Competitors compute the same: values and gradients, whatever way they take."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from experiments.speed.competitors.competitor import Entrant
from experiments.speed.competitors.roster import COMPILED, DIFFRAX, EXACT, PUBLISHED, TORCHODE, ZUKO, entrants_at
from experiments.speed.competitors.this_library import reference
from experiments.speed.meeting import errors_between, first_step
from experiments.speed.problems import BIAS as PROBLEM_BIAS
from experiments.speed.problems import LOW_RANK, SIZES, TINY_CONCAT, TINY_LOW_RANK, make_problem
from vae_flows.cnf import fused
from vae_flows.ode import compilation
from vae_flows.ode.compilation import Compilation

DISCRETE = 1e-5  # single precision and the tolerance of the steps
CONTINUOUS = 1e-3  # torchdiffeq interpolates the end of a solve, and the adjoint is solved at its own tolerance
BIAS = replace(TINY_LOW_RANK, amortization="bias", rank=0)


@pytest.mark.parametrize("size", [TINY_LOW_RANK, BIAS, TINY_CONCAT], ids=lambda size: size.name)
def test_all_of_this_library_and_the_published_formulation_agree(size):
    problem = make_problem(size)
    truth = cache(partial(reference, problem))
    for name, entrant in entrants_at(size).items():
        if entrant.packages:
            continue
        competitor, measurement = first_step(entrant, problem, truth)
        assert competitor is not None, measurement.absent
        # torchdiffeq steps beyond the end and interpolates.
        bound = CONTINUOUS if name in ("adjoint", PUBLISHED) or "torchdiffeq" in name else DISCRETE
        assert set(measurement.errors) == {"end", "log_det", "context", "start", "shared", "head"}
        assert max(measurement.errors.values()) < bound, name
        assert measurement.forward_evaluations >= 13
        solves_backwards = name.startswith(("adjoint", "recompute", PUBLISHED))
        assert (measurement.backward_evaluations > 0) == solves_backwards


def test_compiled_evaluations_take_part_or_are_told_to_be_missing(monkeypatch):
    problem = make_problem(TINY_CONCAT)
    truth = cache(partial(reference, problem))
    for size in (LOW_RANK, PROBLEM_BIAS):
        entrant = entrants_at(size)[COMPILED]
        monkeypatch.setattr(compilation, "_failed", set())
        monkeypatch.setattr(compilation, "_told", set())
        with monkeypatch.context() as stubbed:
            stubbed.setattr(torch, "compile", lambda function, **_: function)
            competitor, measurement = first_step(entrant, problem, truth)
        assert competitor is not None, measurement.absent
        assert max(measurement.errors.values()) < DISCRETE
        assert measurement.first_seconds > 0


def test_what_goes_on_uncompiled_is_no_time_of_compiled_evaluations(monkeypatch):
    def broken(function, **_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    for name in ("_failed", "_told"):
        monkeypatch.setattr(compilation, name, set())
    for name in ("_RATES", "_RECORD", "_PULL_BACK"):
        monkeypatch.setattr(fused, name, Compilation(getattr(fused, name)._function))
    entrant = entrants_at(LOW_RANK)[COMPILED]
    competitor, measurement = first_step(entrant, make_problem(TINY_CONCAT), lambda _: pytest.fail("no reference"))
    assert competitor is None
    assert "CompilationWarning" in measurement.absent


def test_torchode_solves_the_same_dynamics():
    entrant = entrants_at(TINY_CONCAT)[TORCHODE]
    if entrant.missing:
        pytest.skip(entrant.missing)
    for size in (TINY_LOW_RANK, BIAS, TINY_CONCAT):
        problem = make_problem(size)
        competitor, measurement = first_step(entrant, problem, cache(partial(reference, problem)))
        assert competitor is not None, measurement.absent
        assert max(measurement.errors.values()) < DISCRETE, size.name
        assert measurement.forward_evaluations >= 13


def test_zuko_takes_part_with_dynamics_of_its_own():
    entrant = entrants_at(TINY_CONCAT)[ZUKO]
    assert entrant.divergence is None
    if entrant.missing:
        pytest.skip(entrant.missing)
    competitor, measurement = first_step(entrant, make_problem(TINY_CONCAT), lambda _: pytest.fail("no reference"))
    assert competitor is not None, measurement.absent
    assert measurement.forward_evaluations > 0
    assert measurement.backward_evaluations > 0
    assert measurement.errors == {}


@pytest.mark.parametrize("name", ["backprop", "adjoint", PUBLISHED])
def test_steps_start_from_no_gradient_and_count_their_own_evaluations(name):
    competitor = entrants_at(TINY_LOW_RANK)[name].build(make_problem(TINY_LOW_RANK))
    competitor.step()
    first = competitor.outcome()
    competitor.step()
    second = competitor.outcome()
    assert max(errors_between(second, first).values()) == 0
    assert second[2:] == first[2:]


def test_other_dynamics_do_not_agree():
    problem = make_problem(TINY_LOW_RANK)
    other = replace(problem, probes=problem.probes + 0.01)
    competitor = entrants_at(TINY_LOW_RANK)["backprop"].build(other)
    competitor.step()
    errors = errors_between(competitor.outcome(), reference(problem, "hutchinson"))
    assert errors["end"] < DISCRETE < errors["log_det"]


def test_who_takes_part_where():
    by_size = {size.name: set(entrants_at(size)) for size in SIZES}
    assert PUBLISHED in by_size["512-512 rank 20"]
    assert EXACT not in by_size["512-512 rank 20"]
    assert all(TORCHODE in names for names in by_size.values())
    assert {EXACT, DIFFRAX, ZUKO} <= by_size["512-512 bias"]
    assert DIFFRAX not in by_size["512-512 concat"]
    assert sum(PUBLISHED in names for names in by_size.values()) == 1


def test_a_missing_package_and_a_failure_are_told():
    problem = make_problem(TINY_CONCAT)

    def broken(_):
        raise RuntimeError("no memory")

    entrant = Entrant("peer", broken, packages=("no_such_package", "torch"))
    competitor, measurement = first_step(entrant, problem, partial(reference, problem))
    assert competitor is None
    assert measurement.absent == "not installed: no_such_package"
    competitor, measurement = first_step(Entrant("peer", broken), problem, partial(reference, problem))
    assert competitor is None
    assert measurement.absent == "failed: RuntimeError: no memory"


def test_weights_of_the_published_formulation_get_gradients_of_every_block():
    competitor = entrants_at(TINY_LOW_RANK)[PUBLISHED].build(make_problem(TINY_LOW_RANK))
    competitor.step()
    gradients = competitor.outcome().gradients
    heads = [name for name in gradients if name.startswith("head ")]
    assert len(heads) == 4  # weight and bias of two blocks
    assert all(torch.isfinite(gradients[name]).all() and gradients[name].norm() > 0 for name in heads)
