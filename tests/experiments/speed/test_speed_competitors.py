"""Competitors compute the same: values and gradients, whatever way they take."""

from dataclasses import replace

import pytest
import torch

from experiments.speed.competitors import DIFFRAX, EXACT, PUBLISHED, ZUKO, Entry, entries_for, reference
from experiments.speed.measure import errors_between, first_step
from experiments.speed.problems import SIZES, TINY_SIZES, make_problem

DISCRETE = 1e-5  # single precision and the tolerance of the steps
CONTINUOUS = 1e-3  # torchdiffeq interpolates the end of a solve, and the adjoint is solved at its own tolerance
LOW_RANK, CONCAT = TINY_SIZES
BIAS = replace(LOW_RANK, amortization="bias", rank=0)


@pytest.mark.parametrize("size", [LOW_RANK, BIAS, CONCAT], ids=lambda size: size.name)
def test_all_of_this_library_and_the_published_formulation_agree(size):
    problem = make_problem(size)
    references = {}
    for name, entry in entries_for(size).items():
        if entry.packages:
            continue
        competitor, measurement = first_step(entry, problem, references)
        assert competitor is not None, measurement.absent
        # torchdiffeq steps beyond the end and interpolates.
        bound = CONTINUOUS if name in ("adjoint", PUBLISHED) or "torchdiffeq" in name else DISCRETE
        assert set(measurement.errors) == {"end", "log_det", "context", "start", "shared", "head"}
        assert max(measurement.errors.values()) < bound, name
        assert measurement.forward_evaluations >= 13
        solves_backwards = name.startswith(("adjoint", "recompute", PUBLISHED))
        assert (measurement.backward_evaluations > 0) == solves_backwards


def test_steps_start_from_no_gradient():
    competitor = entries_for(LOW_RANK)[PUBLISHED].build(make_problem(LOW_RANK))
    competitor.step()
    first = competitor.outcome()
    competitor.step()
    assert max(errors_between(competitor.outcome(), first).values()) == 0


def test_other_dynamics_do_not_agree():
    problem = make_problem(LOW_RANK)
    other = replace(problem, probes=problem.probes + 0.01)
    competitor = entries_for(LOW_RANK)["backprop"].build(other)
    competitor.step()
    errors = errors_between(competitor.outcome(), reference(problem, "hutchinson"))
    assert errors["end"] < DISCRETE < errors["log_det"]


def test_who_takes_part_where():
    by_size = {size.name: set(entries_for(size)) for size in SIZES}
    assert PUBLISHED in by_size["512-512 rank 20"]
    assert EXACT not in by_size["512-512 rank 20"]
    assert {EXACT, DIFFRAX, ZUKO} <= by_size["512-512 bias"]
    assert DIFFRAX not in by_size["512-512 concat"]
    assert sum(PUBLISHED in names for names in by_size.values()) == 1


def test_a_missing_package_and_a_failure_are_told():
    problem = make_problem(CONCAT)

    def broken(_):
        raise RuntimeError("no memory")

    competitor, measurement = first_step(Entry("peer", broken, packages=("no_such_package", "torch")), problem, {})
    assert competitor is None
    assert measurement.absent == "not installed: no_such_package"
    competitor, measurement = first_step(Entry("peer", broken), problem, {})
    assert competitor is None
    assert measurement.absent == "failed: RuntimeError: no memory"


def test_the_weights_of_the_published_formulation_are_copies():
    problem = make_problem(LOW_RANK)
    competitor = entries_for(LOW_RANK)[PUBLISHED].build(problem)
    competitor.step()
    assert all(parameter.grad is None for parameter in problem.flow.parameters())
    assert torch.isfinite(competitor.outcome().gradients["head 0 weight"]).all()
