import gc
import weakref

import pytest
import torch

from vae_flows.cnf import FunctionField, MLPDynamics
from vae_flows.ode.discrete_adjoint import solve_by_discrete_adjoint
from vae_flows.ode.progress import SolveProgress, WorkMeter
from vae_flows.ode.stepping import SteppingSettings
from vae_flows.ode.tableaus import TABLEAUS
from vae_flows.ode.tapes import AutogradTapedField


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "adaptive_heun"])
@pytest.mark.parametrize("backward", [True, False])
def test_a_solve_is_freed_with_its_results(keep, method, backward):
    """A node that held its own output would keep every solve of a training run in memory."""
    field = MLPDynamics(3, (8, 8)).condition().prepare(torch.Size([5])).with_trace()
    settings = SteppingSettings(TABLEAUS[method], 1e-4, 1e-4, latent_dim=3, controlled=4, options={})
    state = torch.randn(1, 5, 4, requires_grad=True)
    progress = SolveProgress(WorkMeter(), 10_000)
    end = solve_by_discrete_adjoint(field, state, (0.0, 1.0), settings, progress, keep=keep)
    if backward:
        end.sum().backward()
    alive = weakref.ref(field)
    del field, end
    gc.collect()
    assert alive() is None


def test_gradients_of_tensors_that_need_none_are_zero():
    used, unused, frozen = (torch.randn(2, dtype=torch.float64) for _ in range(3))
    used.requires_grad_()
    unused.requires_grad_()
    field = AutogradTapedField(FunctionField(lambda t, z: z * used * frozen, (used, unused, frozen)).with_trace())
    (value, rates), tape = field.record(0.0, torch.ones(4, 2, dtype=torch.float64))
    field.pull_back(tape, torch.ones_like(value), torch.ones_like(rates))
    gradients = field.collect()
    torch.testing.assert_close(gradients[0], 8 * frozen)
    assert not gradients[1].any()
    assert not gradients[2].any()


@pytest.mark.parametrize("kept", [True, False])
def test_a_backward_pass_can_be_repeated(kept):
    field = MLPDynamics(3, (8, 8)).condition().prepare(torch.Size([5])).with_trace()
    settings = SteppingSettings(TABLEAUS["dopri5"], 1e-4, 1e-4, latent_dim=3, controlled=4, options={})
    state = torch.randn(1, 5, 4, requires_grad=True)
    end = solve_by_discrete_adjoint(field, state, (0.0, 1.0), settings, SolveProgress(WorkMeter(), 10_000), keep=kept)
    (first,) = torch.autograd.grad(end.sum(), state, retain_graph=True)
    (second,) = torch.autograd.grad(end.sum(), state)
    assert torch.equal(first, second)
