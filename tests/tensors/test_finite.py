"""Contexts that are NaN, infinite or too large are told by every flow, and values of other types work or are told."""

import math
from contextlib import suppress

import pytest
import torch

import vae_flows as vf
from tests.small_flows import FLOWS, NAMES
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.distributions import DiagonalNormal
from vae_flows.errors import InvalidInputError, VAEFlowsError
from vae_flows.tensors.known_values import all_finite

D, C = 3, 6
pytestmark = pytest.mark.usefixtures("clean_param_store")


def spoilt(value):
    context = torch.randn(5, C)
    context[1, 2] = value
    return context


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_contexts_that_are_not_finite_are_told(name, value):
    posterior = FLOWS[name].posterior(D, C)
    for part in (posterior, posterior.flow):
        with pytest.raises(InvalidInputError, match="context: expected finite"):
            part(spoilt(value))
    with pytest.raises(InvalidInputError, match="finite"):
        vf.FlowGuide(torch.nn.Identity(), posterior)(spoilt(value))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [1e30, 3e38])
def test_no_draw_of_a_huge_context_is_nan(name, value):
    posterior = FLOWS[name].posterior(D, C)
    for draw in (
        lambda: posterior(spoilt(value)).rsample(),
        lambda: posterior(spoilt(value)).rsample_with_log_prob()[0],
        lambda: posterior.flow(spoilt(value))(torch.zeros(5, D)),
        lambda: posterior.flow(spoilt(value)).inv(torch.zeros(5, D)),
    ):
        with suppress(VAEFlowsError):
            assert bool(draw().isfinite().all())


def test_contexts_of_a_conditional_density_are_told():
    with pytest.raises(InvalidInputError, match="finite"):
        ContinuousNormalizingFlow(MLPDynamics(D, (4,)), context_dim=C)(spoilt(math.nan))


def test_checks_step_aside_where_python_may_not_look():
    bad = torch.full((2,), math.nan)
    assert all_finite(bad) is False
    assert all_finite(torch.zeros(0)) is True
    assert all_finite(bad.to("meta")) is None
    assert torch.func.vmap(lambda x: x * (all_finite(x) is None))(torch.ones(2)).tolist() == [1, 1]
    torch.jit.trace(lambda x: x * (all_finite(x) is None), torch.ones(2), check_trace=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64])
def test_values_of_another_type_are_scored_or_told(name, dtype):
    q = FLOWS[name].posterior(D, C)(torch.randn(5, C))
    value = torch.zeros(5, D)
    try:
        log_q = q.log_prob(value.to(dtype))
    except VAEFlowsError:
        return
    torch.testing.assert_close(log_q.float(), q.log_prob(value), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_densities_score_values_of_another_type_or_tell(dtype):
    for density in (DiagonalNormal(torch.zeros(D), torch.ones(D)), ContinuousNormalizingFlow(MLPDynamics(D, (4,)))()):
        with suppress(VAEFlowsError):
            assert bool(density.log_prob(torch.zeros(5, D).to(dtype)).isfinite().all())


@pytest.mark.parametrize("name", ["none", "planar", "iaf", "sylvester-householder"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_densities_in_16_bits_warn(name, dtype):
    q = FLOWS[name].posterior(D, C).to(dtype)(torch.randn(5, C, dtype=dtype))
    with pytest.warns(UserWarning, match="two to three digits"):
        q.rsample_with_log_prob()


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradient", ["backprop", "recompute", "adjoint"])
def test_densities_take_empty_values(shape, training, gradient):
    solver = vf.ODESolver(gradient=gradient)
    density = ContinuousNormalizingFlow(MLPDynamics(D, (4,)), solver=solver).train(training)
    x = torch.zeros(*shape, D, requires_grad=True)
    log_p = density().log_prob(x)
    assert log_p.shape == shape
    log_p.sum().backward()
    assert x.grad.shape == x.shape
    assert density().sample(shape).shape == (*shape, D)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_posteriors_take_empty_batches(name, shape):
    q = FLOWS[name].posterior(D, C)(torch.zeros(*shape, C))
    z, log_q = q.rsample_with_log_prob((2,))
    assert z.shape == (2, *shape, D)
    log_q.sum().backward()
    assert q.log_prob(z.detach().clone()).shape == (2, *shape)
