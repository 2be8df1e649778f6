"""The cache of one evaluation: freed with its transform, and never stale."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pyro
import pytest
import torch
from pyro.distributions import ConditionalTransformedDistribution
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor
from torch.distributions.transforms import ExpTransform

from vae_flows import AmortizedPosterior, DiagonalNormal, FlowDistribution
from vae_flows.cnf import ContinuousTransform, KineticEnergy, MLPDynamics
from vae_flows.flows import AmortizedFlow

D, C, B = 2, 3, 5
SOLVER = 1e-5  # two solves at the tolerance of the flows of this folder

Make = Callable[[int, int], AmortizedFlow]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture
def counting_references() -> Iterator[None]:
    """Leave what becomes unreachable to reference counts alone, as between two runs of the garbage collector."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("counting_references")
@pytest.mark.parametrize("backward", [False, True])
def test_a_training_step_leaves_nothing_behind(make_any_flow: Make, backward: bool) -> None:
    posterior = AmortizedPosterior(D, C, make_any_flow(D, C).train()).double()
    q = posterior(normal(B, C))
    z, log_q = q.rsample_with_log_prob((3,))
    again = q.log_prob(normal(B, D))
    kept = [weakref.ref(thing) for thing in (q.transforms[0], z, log_q, again)]
    if backward:
        (log_q.sum() + again.sum()).backward()
    del q, z, log_q, again
    assert [reference() for reference in kept] == [None] * 4


@pytest.mark.parametrize("kind", ["planar", "ffjord-bias-two-blocks"])
def test_pyro_leaves_nothing_behind(kinds: dict[str, Make], kind: str) -> None:
    posterior, context = AmortizedPosterior(D, C, kinds[kind](D, C).double()).double(), normal(B, C)
    transforms: list[weakref.ref] = []

    def guide() -> None:
        pyro.module("posterior", posterior)
        q = posterior(context)
        transforms.append(weakref.ref(q.transforms[0]))
        with pyro.plate("data", B):
            pyro.sample("z", q)

    def model() -> None:
        with pyro.plate("data", B):
            pyro.sample("z", DiagonalNormal(context.new_zeros(D), context.new_ones(D)))

    pyro.clear_param_store()
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    for _ in range(3):
        svi.step()
    gc.collect()  # traces of Pyro are cycles of their own
    assert [transform() for transform in transforms] == [None] * 3


def test_one_evaluation_is_kept_and_no_more(make_flow: Make) -> None:
    transform = make_flow(D, C)(normal(B, C))
    outputs = []
    for _ in range(4):
        x = normal(B, D)
        y = transform(x)
        outputs.append(weakref.ref(y))
        del x, y
    alive = [output() for output in outputs]
    assert alive[:3] == [None] * 3
    assert alive[3] is not None


def test_values_given_before_the_latest_are_found_again_by_inversion(make_flow: Make) -> None:
    transform = make_flow(D, C)(normal(B, C))
    first, second = normal(B, D), normal(B, D)
    y_first, y_second = transform(first), transform(second)
    torch.testing.assert_close(transform.inv(y_first), first, rtol=0, atol=SOLVER)
    torch.testing.assert_close(transform.inv(y_second), second, rtol=0, atol=SOLVER)


def test_identities_are_never_confused(make_flow: Make) -> None:
    "Tensors that are freed give their identity to others, which a cache by `id` would take for them."
    transform = make_flow(D, C)(normal(B, C))
    for _ in range(10):
        x = normal(B, D)
        y = transform(x)
        del x
        other = y.detach().clone() + 1
        torch.testing.assert_close(transform(transform.inv(other)), other, rtol=0, atol=10 * SOLVER)


def test_an_optimiser_step_is_seen(make_flow: Make) -> None:
    flow, context, z = make_flow(D, C), normal(B, C), normal(B, D).requires_grad_()
    optimizer = torch.optim.SGD([z, *flow.parameters()], lr=0.5)
    flow(context)(z).sin().sum().backward()
    with torch.no_grad():
        transform = flow(context)
        y = transform(z).clone()
        optimizer.step()
        assert not torch.equal(transform(z), y)
        assert torch.equal(transform(z), transform.with_cache(0)(z))
        assert torch.equal(transform.inv(y), transform.with_cache(0).inv(y))


def test_changed_probes_are_seen() -> None:
    probes, z = normal(1, B, D), normal(B, D)
    dynamics = MLPDynamics(D, (6,)).double().condition()
    transform = ContinuousTransform(dynamics, probes=probes)
    with torch.no_grad():
        y = transform(z)
        log_det = transform.log_abs_det_jacobian(z, y)
        probes.copy_(normal(1, B, D))
        fresh = ContinuousTransform(dynamics, probes=probes).forward_with_log_det(z)[1]
        assert torch.equal(transform.log_abs_det_jacobian(z, y), fresh)
        assert not torch.equal(log_det, fresh)


def test_one_transform_draws_its_noise_once_for_a_shape() -> None:
    transform = ContinuousTransform(MLPDynamics(D, (6,)).double().condition())
    z = normal(B, D)
    estimates = [transform.with_cache(0).forward_with_log_det(z)[1] for _ in range(2)]
    assert torch.equal(*estimates)


def test_the_regularisation_of_an_empty_batch_is_not_that_of_the_last_one() -> None:
    transform = ContinuousTransform(MLPDynamics(D, (6,)).double().condition(), regularizers=[KineticEnergy(0.1)])
    transform(normal(B, D))
    assert transform.evaluate(normal(0, D)).regularization.shape == (0,)


@pytest.mark.parametrize("changed", ["draw", "intermediate"])
def test_draws_changed_in_place_are_scored_as_they_are(changed: str) -> None:
    q = FlowDistribution(DiagonalNormal(normal(B, D), normal(B, D).exp()), [ExpTransform()])
    z = q.sample()
    if changed == "draw":
        z.mul_(2)
    else:
        q.transforms[0]._latest.evaluation.x.mul_(2)
    assert torch.equal(q.log_prob(z), q.log_prob(z.clone()))


def test_inference_tensors_have_no_versions_and_are_cached_still(make_flow: Make) -> None:
    with torch.inference_mode():
        transform, z = make_flow(D, C)(normal(B, C)), normal(B, D)
        y = transform(z)
        assert transform.inv(y) is z


def test_conditions_of_a_conditional_distribution_do_not_share_a_cache(make_flow: Make) -> None:
    base = DiagonalNormal(normal(B, D), normal(B, D).exp())
    conditional = ConditionalTransformedDistribution(base, [make_flow(D, C)])
    first, second = conditional.condition(normal(B, C)), conditional.condition(normal(B, C))
    z = first.sample()
    second.sample()
    torch.testing.assert_close(first.log_prob(z), first.log_prob(z.clone()), rtol=0, atol=SOLVER)
    conditional.clear_cache()
