"""Every objective of Pyro, on a guide that is the posterior: each draw must be the log-evidence."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    Importance,
    JitTrace_ELBO,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.infer.importance import vectorized_importance_weights
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError

ROUNDING = 1e-10
FIXED_STEPS = vf.ODESolver(method="rk4", options={"step_size": 0.25})
OBJECTIVES = {
    "Trace": Trace_ELBO(),
    "Trace, particles": Trace_ELBO(num_particles=3),
    "Trace, vectorised": Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    "Trace, vectorised further left": Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=3),
    "MeanField": TraceMeanField_ELBO(),
    "MeanField, vectorised": TraceMeanField_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    "Graph": TraceGraph_ELBO(num_particles=2),
    "Graph, vectorised": TraceGraph_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    "Renyi": RenyiELBO(alpha=0.5, num_particles=3),
    "Renyi, vectorised": RenyiELBO(alpha=0.0, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
}


@pytest.mark.parametrize("packing", ["joint", "separate", "autoregressive"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_draw_is_the_log_evidence(name, packing, model, make_guide, x, log_evidence):
    guide = make_guide("none", packing=packing)
    svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), OBJECTIVES[name])
    expected = pytest.approx(-float(log_evidence(x).sum()), abs=ROUNDING)
    assert svi.evaluate_loss(x) == expected
    assert svi.step(x) == expected
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in guide.parameters())


@pytest.mark.filterwarnings("ignore::vae_flows.BiasedBoundWarning")  # estimates of what is zero have no noise
@pytest.mark.parametrize("packing", ["joint", "autoregressive"])
@pytest.mark.parametrize("name", ["Trace, vectorised", "MeanField", "Graph", "Renyi, vectorised"])
def test_ffjord_solves_once_for_each_sample_drawn_and_scored(name, packing, model, make_guide, x, log_evidence, solves):
    guide = make_guide("ffjord", packing=packing)
    flows = 1 if packing == "joint" else 2
    objective = OBJECTIVES[name]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), objective)
    assert svi.step(x) == pytest.approx(-float(log_evidence(x).sum()), abs=ROUNDING)
    passes = 1 if objective.vectorize_particles else objective.num_particles
    assert len(solves) == flows * passes
    samples = 3 if objective.vectorize_particles else 1
    assert solves[0][:2] in {(5, samples), (samples, 5)}
    assert guide.last_solve.forward_evaluations > 0


def test_the_encoder_runs_once_for_all_vectorised_particles(model, x):
    encoder, rows = nn.Linear(3, 4).double(), []
    encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    guide = vf.AmortizedAutoGuide(model, encoder, "none")
    guide.setup(x)
    rows.clear()
    SVI(model, guide, pyro.optim.Adam({}), OBJECTIVES["Trace, vectorised"]).step(x)
    assert rows == [5]


@pytest.mark.parametrize("packing", ["joint", "separate"])
@pytest.mark.parametrize("vectorize", [False, True])
def test_mini_batches_are_those_of_the_model(packing, vectorize, model, make_guide, exact, log_evidence):
    data = torch.randn(20, 3, dtype=torch.float64)
    rows = []
    encoder = nn.Identity()
    guide = exact_on_mini_batches(model, encoder, packing, data, exact)
    encoder.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0]))
    objective = Trace_ELBO(num_particles=2, vectorize_particles=vectorize, max_plate_nesting=1)
    for _ in range(3):
        loss = SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), objective).evaluate_loss(data, subsample_size=4)
        seen = rows if vectorize else rows[-2:]
        assert all(len(batch) == 4 for batch in seen)
        expected = -sum(float(log_evidence(batch).sum()) for batch in seen) * 20 / 4 / len(seen)
        assert loss == pytest.approx(expected, abs=ROUNDING)
        rows.clear()


def exact_on_mini_batches(model, encoder, packing, data, exact):
    guide = vf.AmortizedAutoGuide(model, encoder, "none", packing=packing)
    guide.setup(data, subsample_size=4)
    return exact(guide)


def test_batches_of_any_size(model, make_guide, log_evidence):
    guide = make_guide("none")
    for rows in (5, 3, 8):
        x = torch.randn(rows, 3, dtype=torch.float64)
        loss = Trace_ELBO().loss(model, guide, x)
        assert loss == pytest.approx(-float(log_evidence(x).sum()), abs=ROUNDING)


def test_annealing_and_masks_scale_guide_and_model_alike(model, make_guide, x, log_evidence):
    guide = make_guide("none")
    kept = torch.tensor([True, False, True, True, False])
    masked, scaled = poutine.mask(model, mask=kept), poutine.scale(model, scale=0.3)
    loss = Trace_ELBO().loss(masked, poutine.mask(guide, mask=kept), x)
    assert loss == pytest.approx(-float(log_evidence(x)[kept].sum()), abs=ROUNDING)
    loss = Trace_ELBO().loss(scaled, poutine.scale(guide, scale=0.3), x)
    assert loss == pytest.approx(-0.3 * float(log_evidence(x).sum()), abs=ROUNDING)


def test_importance_weights_are_the_evidence(model, make_guide, x, log_evidence):
    guide = make_guide("ffjord").eval()
    importance = Importance(model, guide, num_samples=4).run(x)
    expected = log_evidence(x).sum()
    torch.testing.assert_close(torch.stack(importance.log_weights), expected.expand(4), rtol=0, atol=ROUNDING)
    weights, _, _ = vectorized_importance_weights(model, guide, x, num_samples=4, max_plate_nesting=1)
    torch.testing.assert_close(weights, expected.expand(4), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("packing", ["joint", "separate", "autoregressive"])
@pytest.mark.parametrize("parallel", [False, True])
def test_predictive(packing, parallel, model, make_guide, x, solves):
    guide = make_guide("ffjord", packing=packing)
    samples = Predictive(model, guide=guide, num_samples=300 if parallel else 3, parallel=parallel)(x)
    count = 300 if parallel else 3
    assert (samples["location"].shape, samples["rate"].shape) == ((count, 5, 2), (count, 5))
    if parallel:
        # posterior N(0.8 x, 0.2): five standard errors of a mean of 300 draws; 15 comparisons, false alarm 1e-5
        u = torch.cat([samples["location"], samples["rate"].log().unsqueeze(-1)], -1)
        assert float((u.mean(0) - 0.8 * x).abs().max()) < 5 * (0.2 / 300) ** 0.5
        flows = 1 if packing == "joint" else 2
        assert len(solves) == flows * 3  # Pyro runs a guide three times, twice for its shapes


@pytest.mark.parametrize("flow", ["none", "planar", "ffjord"])
def test_jit_compiled_loss_and_gradients_are_those_of_the_eager_ones(flow, model, x):
    options = {"ffjord": {"hidden_dims": (8,), "amortization": "bias", "solver": FIXED_STEPS}}.get(flow, {})
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), flow, **options)
    guide.setup(x)
    compiled, other = JitTrace_ELBO(ignore_jit_warnings=True), torch.randn_like(x)
    compiled.loss_and_grads(model, guide, x)
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # a graph that kept values as constants would be found out
    results = []
    for objective in (compiled, Trace_ELBO()):
        guide.zero_grad()
        reseed(1)
        loss = objective.loss_and_grads(model, guide, other)
        results.append((loss, [p.grad.clone() for p in guide.parameters() if p.grad is not None]))
    assert results[0][0] == pytest.approx(results[1][0], abs=ROUNDING)
    for got, expected in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("solver", [vf.ODESolver(), vf.ODESolver(method="rk4", gradient="adjoint")])
def test_jit_refuses_solves_that_a_graph_cannot_repeat(solver, model, x):
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), hidden_dims=(8,), solver=solver)
    with pytest.raises(InvalidInputError, match=r"torch\.jit\.trace: expected fixed steps"):
        JitTrace_ELBO(ignore_jit_warnings=True).loss_and_grads(model, guide, x)
