"""Discrete flows: the published formulations compute what this library's flows do, and peers take part."""

from functools import cache, partial

import pytest

from experiments.speed.competitors.discrete import DISCRETE_FLOWS, discrete_meeting
from experiments.speed.competitors.roster import BASELINE, PUBLISHED, PYRO, ZUKO
from experiments.speed.meeting import first_step, time_meeting
from experiments.speed.speed_report import make_tables

SINGLE = 1e-3  # single precision: layers that come near to a singular Jacobian multiply it, in gradients by thousands


@pytest.mark.parametrize("name", DISCRETE_FLOWS)
def test_all_with_the_flows_weights_agree(name):
    meeting = discrete_meeting(name, latent_dim=6, context_dim=4, batch=5)
    problem = meeting.make_problem()
    truth = cache(partial(meeting.reference, problem))
    measured = {}
    for entrant in meeting.make_entrants().values():
        competitor, measurement = first_step(entrant, problem, truth)
        assert competitor is not None or entrant.missing, measurement.absent
        measured[entrant.name] = measurement
    groups = {"end", "log_det", "context", "start", "head"} | ({"shared"} if name == "iaf" else set())
    assert {BASELINE, PUBLISHED} <= set(measured)
    for measurement in (entry for entry in measured.values() if entry.errors):
        assert set(measurement.errors) == groups
        assert max(measurement.errors.values()) < SINGLE, measurement.competitor
        assert measurement.forward_evaluations is None


def test_which_peers_have_equals():
    peers = {name: set(discrete_meeting(name).make_entrants()) - {BASELINE, PUBLISHED} for name in DISCRETE_FLOWS}
    assert {name: names for name, names in peers.items() if names} == {"planar": {PYRO}, "iaf": {PYRO, ZUKO}}


def test_another_weight_does_not_agree():
    meeting = discrete_meeting("sylvester-householder", latent_dim=6, context_dim=4, batch=5)
    problem = meeting.make_problem()
    truth = meeting.reference(problem, "any")
    problem.flow.heads.linear.bias.data += 0.1
    _, measurement = first_step(meeting.make_entrants()[PUBLISHED], problem, lambda _: truth)
    assert measurement.value_error > SINGLE


def test_a_table_has_the_columns_of_the_others_and_no_evaluations(comparison):
    sizes = (*comparison.sizes, time_meeting(discrete_meeting("iaf", latent_dim=4, context_dim=3, batch=2), rounds=1))
    tables = {table.title: table for table in make_tables(comparison.__class__(**{**vars(comparison), "sizes": sizes}))}
    table = tables["iaf, 4 latents"]
    assert table.columns == tables["512-512 bias"].columns
    assert {row[3].text for row in table.rows} <= {"–"}
    assert "Pyro: equal widths of hidden layers, networks of its own." in table.notes
