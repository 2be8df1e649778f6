"""Flows of images at one scale and several: change of variables, normalisation, work and errors."""

import math

import pytest
import torch
from torch import nn

from vae_flows.cnf import ImageFlow, KineticEnergy, ODESolver
from vae_flows.cnf.image_flow import unsqueezing_order
from vae_flows.errors import InvalidInputError
from vae_flows.persistence.configuration import build, describe

SOLVER = 1e-7  # what solves at tolerance 1e-10 leave, with room for the growth of errors over several flows
ROUNDING = 1e-12
GRID = 1e-3  # of a smooth density on cells of 1/200, but for the borders, where it vanishes
TIGHT = ODESolver(rtol=1e-10, atol=1e-10)


def flow_of(shape, **options):
    options = {"hidden_channels": (4, 3), "solver": TIGHT, "eval_divergence": "exact", **options}
    flow = ImageFlow(shape, **options).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, 0, 0.15)
    return flow.eval()


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 3, 5), {}),
        ((2, 4, 4), {"num_scales": 2}),
        ((1, 4, 8), {"num_scales": 3}),
        ((1, 4, 4), {"num_scales": 2, "flows_per_scale": 2, "logit_margin": None}),
        ((1, 4, 4), {"strides": (2, 1, -2), "logit_margin": 0.05}),
    ],
    ids=str,
)
def test_the_density_is_that_of_the_change_of_variables(shape, options):
    flow = flow_of(shape, **options)
    images = torch.rand(2, *shape).double()
    into_noise = flow.transform().inv
    flat = images.flatten(1)
    jacobians = torch.stack([torch.autograd.functional.jacobian(into_noise, one) for one in flat])
    expected = flow.base().log_prob(into_noise(flat)) + torch.linalg.slogdet(jacobians).logabsdet
    torch.testing.assert_close(flow().log_prob(images), expected, rtol=SOLVER, atol=SOLVER)


@pytest.mark.parametrize("num_scales", [1, 2])
def test_a_draw_has_the_density_that_it_is_scored_with(num_scales):
    flow = flow_of((1, 2, 4), num_scales=num_scales)
    images, log_q = flow().rsample_with_log_prob((3,))
    assert images.shape == (3, 1, 2, 4)
    torch.testing.assert_close(flow().log_prob(images), log_q, rtol=SOLVER, atol=SOLVER)


@torch.no_grad()
def test_the_density_integrates_to_one():
    flow = flow_of((1, 1, 2), solver=ODESolver(rtol=1e-6, atol=1e-6))
    side = (torch.arange(200).double() + 0.5) / 200
    images = torch.cartesian_prod(side, side).reshape(-1, 1, 1, 2)
    assert flow().log_prob(images).exp().mean().item() == pytest.approx(1, abs=GRID)


@pytest.mark.parametrize("margin", [None, 1e-6, 0.05])
def test_a_fresh_flow_is_the_gaussian_behind_the_logits(margin):
    flow = ImageFlow((1, 4, 4), num_scales=2, logit_margin=margin).double()
    images = 0.1 + 0.8 * torch.rand(3, 1, 4, 4).double()
    normal = torch.distributions.Normal(0.0, 1.0)
    if margin is None:
        expected = normal.log_prob(images)
    else:
        share = margin + (1 - 2 * margin) * images
        expected = normal.log_prob(share.logit()) + math.log(1 - 2 * margin)
        expected = expected - share.log() - (1 - share).log()
    torch.testing.assert_close(flow().log_prob(images), expected.flatten(1).sum(1), rtol=ROUNDING, atol=ROUNDING)


def test_the_score_carried_along_is_that_of_automatic_differentiation():
    flow = flow_of((1, 2, 4), num_scales=2)
    drawn = flow().rsample_with_score((2,))
    point = drawn.z.detach().requires_grad_()
    (expected,) = torch.autograd.grad(flow().log_prob(point).sum(), point)
    torch.testing.assert_close(drawn.score, expected, rtol=10 * SOLVER, atol=10 * SOLVER)


def test_training_estimates_regularises_and_counts():
    flow = flow_of((1, 4, 4), num_scales=2, regularizers=[KineticEnergy(0.1)], solver=ODESolver())
    images = torch.rand(3, 1, 4, 4).double()
    flow.train()
    one, other = (flow().evaluate(images) for _ in range(2))
    assert not one.log_q.equal(other.log_q)
    assert (one.regularization > 0).all()
    assert one.work.forward_evaluations == sum(part.last_solve.forward_evaluations for part in flow.flows) > 0
    assert flow.last_solve.forward_evaluations == other.work.forward_evaluations
    one.log_q.sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in flow.parameters())


def test_no_work_is_counted_before_the_first_solve():
    assert ImageFlow((1, 4, 4)).last_solve is None


def test_the_constructor_is_told_by_its_description():
    flow = ImageFlow((2, 4, 4), num_scales=2, logit_margin=0.05, solver=TIGHT, train_integration_time=True)
    description = describe(flow)
    again = build(description)
    again.load_state_dict(flow.state_dict())
    assert describe(again) == description


def test_a_squeeze_makes_channels_of_neighbours():
    image = torch.arange(2 * 4 * 6).reshape(2, 4, 6)
    expected = nn.functional.pixel_unshuffle(image.unsqueeze(0).float(), 2).flatten().long()
    assert expected[unsqueezing_order((2, 4, 6))].equal(image.flatten())


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 4), {}),
        ((1, 6, 4), {"num_scales": 3}),
        ((1, 4, 4), {"num_scales": 0}),
        ((1, 4, 4), {"flows_per_scale": 0}),
        ((1, 4, 4), {"logit_margin": 0.5}),
        ((1, 4, 4), {"logit_margin": 0.0}),
        ((1, 4, 4), {"integration_time": 0.0}),
    ],
    ids=str,
)
def test_what_makes_no_flow_is_refused(shape, options):
    with pytest.raises(InvalidInputError, match="expected"):
        ImageFlow(shape, **options)


@pytest.mark.parametrize("shape", [(3, 16), (3, 1, 4, 5), (4, 4)], ids=str)
def test_values_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInputError):
        ImageFlow((1, 4, 4))().log_prob(torch.rand(shape))


@pytest.mark.parametrize("pixel", [1.5, -0.5, math.nan])
def test_pixels_beyond_the_margin_are_refused(pixel):
    images = torch.rand(2, 1, 4, 4)
    images[1, 0, 2, 3] = pixel
    with pytest.raises(InvalidInputError, match=r"numbers above|within Real"):
        ImageFlow((1, 4, 4))().log_prob(images)
