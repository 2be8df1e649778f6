"""What every flow promises. A new flow costs one row of `FLOWS`."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pyro.distributions import ConditionalTransformedDistribution, Independent, Normal
from torch import Tensor
from torch.distributions import TransformedDistribution

from vae_flows.cnf import ODESolver
from vae_flows.errors import InvalidInputError
from vae_flows.flows import (
    FFJORD,
    AmortizedFlow,
    HouseholderSylvesterFlow,
    IAFFlow,
    IdentityFlow,
    OrthogonalSylvesterFlow,
    PlanarFlow,
    TriangularSylvesterFlow,
    available_flows,
)

D, C, B = 4, 3, 5

EXACT = 1e-8  # rounding of closed forms, amplified by the condition of a flow
SINGLE = 1e-3  # the same in float32
ACCURATE = ODESolver(rtol=1e-6, atol=1e-6)
SOLVER = 1e-3  # two solves at the tolerance of ACCURATE


@dataclass(frozen=True)
class Row:
    """How to build a flow cheaply from latent and context size, and how far its two directions may disagree."""

    build: Callable[[int, int], AmortizedFlow]
    tolerance: float = EXACT


FLOWS = {
    "none": Row(IdentityFlow),
    "planar": Row(lambda d, c: PlanarFlow(d, c, num_layers=2)),
    "sylvester-orthogonal": Row(lambda d, c: OrthogonalSylvesterFlow(d, c, num_layers=2, num_orthogonal=(d + 1) // 2)),
    "sylvester-householder": Row(lambda d, c: HouseholderSylvesterFlow(d, c, num_layers=2, num_reflections=3)),
    "sylvester-triangular": Row(lambda d, c: TriangularSylvesterFlow(d, c, num_layers=2)),
    "iaf": Row(lambda d, c: IAFFlow(d, c, num_layers=2, hidden_dim=8)),
    "ffjord-low-rank": Row(lambda d, c: FFJORD(d, c, hidden_dims=(6,), rank=2, solver=ACCURATE), SOLVER),
    "ffjord-bias": Row(
        lambda d, c: FFJORD(d, c, hidden_dims=(6,), num_blocks=2, amortization="bias", solver=ACCURATE), SOLVER
    ),
    "ffjord-concat-blend": Row(
        lambda d, c: FFJORD(
            d,
            c,
            hidden_dims=(6,),
            amortization="concat",
            time_conditioning="blend",
            activation="swish",
            solver=ACCURATE,
        ),
        SOLVER,
    ),
    "ffjord-hyper-learned-time": Row(
        lambda d, c: FFJORD(
            d, c, hidden_dims=(6, 5), amortization="hyper", train_integration_time=True, solver=ACCURATE
        ),
        SOLVER,
    ),
}


@pytest.fixture(params=FLOWS)
def case(request: pytest.FixtureRequest) -> Row:
    return FLOWS[request.param]


def perturbed(flow: AmortizedFlow) -> AmortizedFlow:
    """Move the parameters off any start at zero, where a flow could be right by accident."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


@pytest.fixture
def flow(case: Row) -> AmortizedFlow:
    return perturbed(case.build(D, C).double()).eval()


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_every_flow_of_the_library_has_a_row() -> None:
    registered_by_examples = {"my-flow"}
    assert set(available_flows()) - registered_by_examples == {row.build(D, C).name for row in FLOWS.values()}


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_round_trip_from_arbitrary_values(case: Row, flow: AmortizedFlow, scale: float) -> None:
    transform = flow(normal(B, C)).with_cache(0)
    x, y = scale * normal(2, 7, B, D)
    close(transform.inv(transform(x)), x, case.tolerance)
    close(transform(transform.inv(y)), y, case.tolerance)
    x, log_det = transform.inverse_with_log_det(y)
    close(log_det, transform.forward_with_log_det(x)[1], case.tolerance)


def test_log_det_is_that_of_the_jacobian(case: Row, flow: AmortizedFlow) -> None:
    context, z = normal(B, C), normal(B, D)
    log_det = flow(context).log_abs_det_jacobian(z, flow(context)(z))
    for example in range(B):
        transform = flow(context[example])
        jacobian = torch.autograd.functional.jacobian(transform, z[example])
        assert isinstance(jacobian, Tensor)
        close(log_det[example], torch.linalg.slogdet(jacobian).logabsdet, case.tolerance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_reach_every_parameter_and_the_inputs(flow: AmortizedFlow, training: bool, direction: str) -> None:
    flow.train(training)
    context, z = normal(B, C).requires_grad_(), normal(B, D).requires_grad_()
    transform = flow(context)
    value, log_det = (transform.forward_with_log_det if direction == "forward" else transform.inverse_with_log_det)(z)
    (value.sin() * normal(B, D)).sum().add((log_det * normal(B)).sum()).backward()
    learned = dict(flow.named_parameters())
    for name, tensor in {**learned, "z": z, **({"context": context} if learned else {})}.items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@pytest.mark.parametrize("sample", [(), (7,), (2, 7), (0,)])
@pytest.mark.parametrize("batch", [(), (B,), (2, 3), (0,)])
def test_sample_and_batch_shapes(
    case: Row, flow: AmortizedFlow, sample: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    context, z = normal(*batch, C), normal(*sample, *batch, D)
    transform = flow(context)
    y = transform(z)
    assert y.shape == z.shape
    assert transform.log_abs_det_jacobian(z, y).shape == sample + batch
    x, log_det = transform.inverse_with_log_det(y.detach())
    assert (x.shape, log_det.shape) == (z.shape, sample + batch)
    if z.numel():
        index = (0,) * len(sample + batch)
        alone = flow(context[index[len(sample) :]])(z[index])
        close(y[index], alone, case.tolerance)


@pytest.mark.parametrize(
    ("context_batch", "z_batch"), [((B,), (7, B)), ((1,), (B,)), ((B,), (1,)), ((B,), ()), ((), (7, B)), ((2, 1), (3,))]
)
def test_context_and_latents_broadcast(
    case: Row, flow: AmortizedFlow, context_batch: tuple[int, ...], z_batch: tuple[int, ...]
) -> None:
    context, z = normal(*context_batch, C), normal(*z_batch, D)
    shape = torch.broadcast_shapes(context_batch, z_batch)
    whole = flow(context.expand(*shape, C).contiguous())
    for actual, expected in (
        (flow(context).forward_with_log_det(z), whole.forward_with_log_det(z.expand(*shape, D).contiguous())),
        (flow(context).inverse_with_log_det(z), whole.inverse_with_log_det(z.expand(*shape, D).contiguous())),
    ):
        assert (actual[0].shape, actual[1].shape) == ((*shape, D), shape)
        close(actual[0], expected[0], case.tolerance)
        close(actual[1], expected[1], case.tolerance)
    assert flow(context).forward_shape(z.shape) == (*shape, D)


def test_wrong_inputs_are_named(case: Row, flow: AmortizedFlow) -> None:
    transform = flow(normal(B, C))
    with pytest.raises(
        InvalidInputError, match=rf"latents of shape \(\*sample, \*batch, {D}\) with \*batch = \({B},\)"
    ):
        transform(normal(B + 1, D))
    with pytest.raises(InvalidInputError, match=r"latents of shape .*, got shape"):
        transform.inv(normal(B, 1, 2, D))
    with pytest.raises(InvalidInputError, match=rf"latents of shape \(\.\.\., {D}\), got shape \({B}, {D + 1}\)"):
        transform(normal(B, D + 1))
    with pytest.raises(InvalidInputError, match=r"a floating-point tensor, got torch\.int64"):
        transform(torch.zeros(B, D, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match=rf"context: .*\(\*batch, {C}\).*of shape \({B}, {C + 1}\)"):
        flow(normal(B, C + 1))
    with pytest.raises(InvalidInputError, match=r"context: .*got torch\.int64"):
        flow(torch.zeros(B, C, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="latent_dim: expected a positive integer, got 0"):
        case.build(0, C)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_by_a_fresh_flow(case: Row, dtype: torch.dtype) -> None:
    flow = case.build(D, C).to(dtype)
    z = normal(7, B, D, dtype=dtype)
    transform = flow(normal(B, C, dtype=dtype))
    y, log_det = transform.forward_with_log_det(z)
    x, inverse_log_det = transform.inverse_with_log_det(y)
    assert {tensor.dtype for tensor in (y, log_det, x, inverse_log_det)} == {dtype}
    close(x, z, max(case.tolerance, SINGLE if dtype == torch.float32 else 0))


def test_one_latent_dimension(case: Row) -> None:
    flow = perturbed(case.build(1, C).double()).eval()
    transform = flow(normal(B, C)).with_cache(0)
    z = normal(7, B, 1)
    close(transform.inv(transform(z)), z, case.tolerance)


def test_state_survives_a_file(case: Row, flow: AmortizedFlow, tmp_path: Path) -> None:
    torch.save(flow.state_dict(), tmp_path / "flow.pt")
    other = case.build(D, C).double().eval()
    other.load_state_dict(torch.load(tmp_path / "flow.pt", weights_only=True))
    context, z = normal(B, C), normal(B, D)
    assert torch.equal(flow(context)(z), other(context)(z))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda flow: pickle.load(io.BytesIO(pickle.dumps(flow)))])
def test_copies_give_the_same_values(flow: AmortizedFlow, duplicate: Callable[[AmortizedFlow], AmortizedFlow]) -> None:
    context, z = normal(B, C), normal(B, D)
    flow(context)(z)
    other = duplicate(flow)
    assert other is not flow
    assert torch.equal(flow(context)(z), other(context)(z))


def test_the_latest_evaluation_is_cached(flow: AmortizedFlow) -> None:
    transform, z = flow(normal(B, C)), normal(B, D)
    y = transform(z)
    assert transform.inv(y) is z
    assert transform(z) is y
    log_det = transform.log_abs_det_jacobian(z, y)
    assert transform.log_abs_det_jacobian(z, y) is log_det
    y = normal(B, D)
    z = transform.inv(y)
    assert transform(z) is y


def test_without_a_cache_values_are_the_same_but_recomputed(case: Row, flow: AmortizedFlow) -> None:
    transform, z = flow(normal(B, C)), normal(B, D)
    fresh = transform.with_cache(0)
    y = fresh(z)
    assert fresh.inv(y) is not z
    close(fresh.inv(y), z, case.tolerance)
    close(fresh.log_abs_det_jacobian(z, y), transform.log_abs_det_jacobian(z, transform(z)), case.tolerance)


@pytest.mark.parametrize("changed", ["parameters", "latents"])
def test_a_stale_evaluation_is_not_returned(flow: AmortizedFlow, changed: str) -> None:
    with torch.no_grad():
        transform, z = flow(normal(B, C)), normal(B, D)
        y = transform(z).clone()
        for tensor in flow.parameters() if changed == "parameters" else [z]:
            tensor.add_(0.1)
        again = transform(z)
        assert torch.equal(again, transform.with_cache(0)(z))
        assert torch.equal(transform.log_abs_det_jacobian(z, again), transform.with_cache(0).forward_with_log_det(z)[1])
        assert changed == "parameters" or not torch.equal(again, y)


def test_pyro_scores_its_draws_as_the_change_of_variables_says(case: Row, flow: AmortizedFlow) -> None:
    context, base = normal(B, C), Independent(Normal(normal(B, D), normal(B, D).exp()), 1)
    conditional = ConditionalTransformedDistribution(base, [flow]).condition(context)
    direct = TransformedDistribution(base, [flow(context)])
    for distribution in (conditional, direct):
        assert (distribution.batch_shape, distribution.event_shape) == ((B,), (D,))
        y = distribution.rsample(torch.Size([7]))
        x, log_det = flow(context).inverse_with_log_det(y)
        close(distribution.log_prob(y), base.log_prob(x) - log_det, case.tolerance)
        elsewhere = y + 0.1
        x, log_det = flow(context).inverse_with_log_det(elsewhere)
        close(distribution.log_prob(elsewhere), base.log_prob(x) - log_det, case.tolerance)


def test_repr_names_the_flow_and_its_sizes(flow: AmortizedFlow) -> None:
    assert repr(flow).startswith(f"{type(flow).__name__}(")
    assert f"latent_dim={D}, context_dim={C}" in repr(flow)
