"""Floating-point types, mixed precision and devices without numbers, as a solve meets them."""

import pytest
import torch

import vae_flows as vf
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, HutchinsonDivergence, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError

SOLVERS = [
    ODESolver(),
    ODESolver(gradient="recompute"),
    ODESolver(gradient="adjoint"),
    ODESolver(fused=False),
    ODESolver(method="dopri8"),
    ODESolver(method="dopri8", gradient="adjoint"),
]
SIXTEEN_BITS = 0.05  # what products in 16 bits leave of a gradient, relative to it


def posterior_loss(solver):
    posterior = vf.AmortizedPosterior(3, 8, flow="ffjord", hidden_dims=(16,), rank=2, solver=solver)
    h = torch.randn(6, 8)

    def loss():
        z, log_q = posterior(h).rsample_with_log_prob()
        return (log_q + z.square().sum(-1)).mean()

    return posterior, loss


def score_loss(solver):
    posterior, _ = posterior_loss(solver)
    h = torch.randn(6, 8)

    def loss():
        z, log_q, score = posterior(h).rsample_with_score()
        return (log_q + (z * score).sum(-1) + z.square().sum(-1)).mean()

    return posterior, loss


def density_loss(solver):
    flow = ContinuousNormalizingFlow(MLPDynamics(2, (16,)), context_dim=4, solver=solver)
    x, h = torch.randn(6, 2), torch.randn(6, 4)
    return flow, lambda: -flow(h).log_prob(x).mean()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("make", [posterior_loss, score_loss, density_loss])
def test_the_backward_pass_inside_of_mixed_precision_is_that_outside(make, solver, dtype):
    module, loss = make(solver)
    found = []
    for inside in (True, False):
        module.zero_grad()
        with torch.random.fork_rng():
            with torch.autocast("cpu", dtype=dtype):
                value = loss()
                if inside:
                    value.backward()
            if not inside:
                value.backward()
        found.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
    assert (found[0] - found[1]).norm() <= SIXTEEN_BITS * found[1].norm()
    assert found[1].norm() > 0


def test_values_of_another_float_type_are_converted_where_nothing_is_lost():
    posterior = vf.AmortizedPosterior(3, 6, flow="ffjord", hidden_dims=(8,)).eval()
    h, z = torch.randn(5, 6), torch.randn(5, 3).to(torch.bfloat16)
    torch.testing.assert_close(posterior(h).log_prob(z), posterior(h).log_prob(z.float()), rtol=0, atol=1e-4)
    flow = ContinuousNormalizingFlow(MLPDynamics(2, (8,)), context_dim=6).eval()
    assert flow(h.to(torch.float16)).log_prob(torch.randn(5, 2)).dtype == torch.float32
    with pytest.raises(InvalidInputError, match=r"latents: expected at most torch\.float32, got torch\.float64"):
        posterior(h).log_prob(z.double())
    with pytest.raises(InvalidInputError, match="context: expected at most"):
        flow(h.double())
    with pytest.raises(InvalidInputError, match="dtype"):
        ContinuousTransform(lambda t, z: z.double())(torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{"rank": 2}, {"amortization": "bias"}])
@pytest.mark.filterwarnings("ignore:log q is computed in:UserWarning")
def test_models_of_sixteen_bits_are_solved(dtype, options):
    posterior = vf.AmortizedPosterior(3, 8, flow="ffjord", hidden_dims=(16,), **options).to(dtype)
    z, log_q = posterior(torch.randn(6, 8, dtype=dtype)).rsample_with_log_prob()
    assert z.dtype == log_q.dtype == dtype
    log_q.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in posterior.parameters())


@pytest.mark.parametrize("options", [{}, {"num_blocks": 2}, {"train_integration_time": True}, {"end_time_jitter": 0.1}])
def test_shapes_can_be_had_on_the_meta_device(options):
    posterior = vf.AmortizedPosterior(3, 6, flow="ffjord", hidden_dims=(8,), **options).to("meta")
    q = posterior(torch.empty(4, 6, device="meta"))
    z, log_q, score = q.rsample_with_score((2,))
    assert (z.shape, log_q.shape, score.shape) == ((2, 4, 3), (2, 4), (2, 4, 3))
    assert q.log_prob(torch.empty(5, 4, 3, device="meta")).shape == (5, 4)
    assert z.is_meta


@pytest.mark.parametrize(("divergence", "width"), [("hutchinson", 3), ("bottleneck", 4)])
def test_probes_that_are_given_have_the_shape_of_latents(divergence, width):
    dynamics, z = MLPDynamics(3, (4,)).condition(), torch.randn(5, 3)

    def integrate(*shape, num_probes=2):
        probes = torch.ones(shape)
        return ContinuousTransform(dynamics, divergence=divergence, num_probes=num_probes, probes=probes)(z)

    assert integrate(2, 5, width).shape == (5, 3)
    for wrong in [(5, width), (1, 5, width), (2, 4, width), (2, 1, width), (2, 5, width + 1), (2, 5, 1), ()]:
        with pytest.raises(InvalidInputError, match=r"probes: expected shape \(2, 5, "):
            integrate(*wrong)


@pytest.mark.parametrize("divergence", ["exact", "brute_force"])
def test_probes_are_refused_where_there_is_no_noise(divergence):
    transform = ContinuousTransform(MLPDynamics(3, (4,)).condition(), divergence=divergence, probes=torch.ones(1, 5, 3))
    with pytest.raises(InvalidInputError, match="probes: expected none for"):
        transform(torch.randn(5, 3))
    assert HutchinsonDivergence().num_probes == 1
