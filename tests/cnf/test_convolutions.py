"""Convolutional dynamics against the published form, automatic differentiation and each other's gradients."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from vae_flows.cnf import ContinuousTransform, ConvolutionalDynamics, ODESolver
from vae_flows.errors import InvalidInputError, UnknownNameError

ROUNDING = 1e-12  # of sums of some hundred products in double precision
SOLVER = 1e-7  # what solves at tolerance 1e-10 leave
FINITE_DIFFERENCE = 1e-6
TIGHT = ODESolver(rtol=1e-10, atol=1e-10)

LAYOUTS = {
    "plain": ((2, 4, 3), (3, 5), None),
    "strides": ((1, 8, 4), (3, 4, 3), (2, 2, -2, -2)),
    "a stride of two and back": ((2, 6, 4), (4,), (2, -2)),
    "one pixel": ((3, 1, 1), (4,), None),
}


def dynamics(layout="plain", activation="softplus"):
    shape, hidden, strides = LAYOUTS[layout]
    made = ConvolutionalDynamics(shape, hidden, strides=strides, activation=activation).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    return made


def published(made, t, z):
    """f as layers on images with a channel of times in front (Grathwohl et al. 2019)."""
    x = z.reshape(-1, *made.image_shape)
    for index, layer in enumerate(made.layers):
        x = layer(torch.cat([torch.full_like(x[:, :1], t), x], 1))
        if index < len(made.layers) - 1:
            x = nn.functional.softplus(x)
    return x.reshape(z.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_field_is_that_of_layers_with_time_as_a_channel(layout):
    made = dynamics(layout)
    z = torch.randn(3, made.latent_dim).double()
    field = made.condition().prepare(z.shape[:-1])
    torch.testing.assert_close(field.value(0.7, z), published(made, 0.7, z), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("activation", ["softplus", "tanh", "silu", "elu", "sine", "swish"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_estimate_and_trace_are_those_of_the_jacobian(layout, activation):
    made = dynamics(layout, activation)
    z = torch.randn(2, made.latent_dim).double()
    field = made.condition().prepare(z.shape[:-1])
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda one: field.value(0.3, one), example) for example in z]
    )
    value, trace = field.with_trace().evaluate(0.3, z)
    torch.testing.assert_close(value, field.value(0.3, z), rtol=ROUNDING, atol=ROUNDING)
    expected = jacobians.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    torch.testing.assert_close(trace, expected, rtol=ROUNDING, atol=ROUNDING)
    probes = torch.randn(3, *z.shape).double()
    _, estimate = field.with_probes(probes).evaluate(0.3, z)
    expected = torch.einsum("pni,nij,pnj->pn", probes, jacobians, probes).mean(0).unsqueeze(-1)
    torch.testing.assert_close(estimate, expected, rtol=ROUNDING, atol=ROUNDING)


def gradients(made, z, solver, until=1.0):
    transform = ContinuousTransform(made.condition(), integration_time=until, divergence="exact", solver=solver)
    z = z.clone().requires_grad_()
    y, log_det = transform.forward_with_log_det(z)
    loss = y.square().sum() + log_det.sin().sum()
    return loss, torch.autograd.grad(loss, [z, *made.parameters()])


@pytest.mark.parametrize("gradient", ["recompute", "adjoint"])
def test_the_ways_to_differentiate_a_solve_agree(gradient):
    made = dynamics("strides", "swish")
    z = torch.randn(2, made.latent_dim).double()
    _, expected = gradients(made, z, TIGHT)
    _, found = gradients(made, z, ODESolver(rtol=1e-10, atol=1e-10, gradient=gradient))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=SOLVER, atol=SOLVER)


def test_gradients_are_those_of_finite_differences():
    made = dynamics()
    z = torch.randn(2, made.latent_dim).double()
    _, found = gradients(made, z, TIGHT)
    step = 1e-5
    for parameter, gradient in zip(made.parameters(), found[1:], strict=True):
        direction = torch.randn_like(parameter)
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            sides.append(gradients(made, z, TIGHT)[0].item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        difference = (sides[0] - sides[1]) / (2 * step)
        assert (gradient * direction).sum().item() == pytest.approx(difference, rel=FINITE_DIFFERENCE, abs=1e-7)


@pytest.mark.parametrize("sample", [(), (3,), (2, 1)])
def test_any_sample_shape_and_a_time_for_each_example(sample):
    made = dynamics()
    times = torch.tensor([0.5, 1.0]).double()
    z = torch.randn(*sample, 2, made.latent_dim).double()
    each = ContinuousTransform(made.condition(), integration_time=times, divergence="exact", solver=TIGHT)
    y, log_det = each.forward_with_log_det(z)
    for index, time in enumerate(times.tolist()):
        one = ContinuousTransform(made.condition(), integration_time=time, divergence="exact", solver=TIGHT)
        expected, of_density = one.forward_with_log_det(z[..., index, :])
        torch.testing.assert_close(y[..., index, :], expected, rtol=SOLVER, atol=SOLVER)
        torch.testing.assert_close(log_det[..., index], of_density, rtol=SOLVER, atol=SOLVER)


def test_fresh_dynamics_leave_images_where_they_are():
    made = ConvolutionalDynamics((1, 4, 4))
    z = torch.randn(3, 16)
    y, log_det = ContinuousTransform(made.condition()).forward_with_log_det(z)
    assert y.equal(z)
    assert not log_det.any()


def test_pruned_weights_are_used():
    made = dynamics()
    prune.l1_unstructured(made.layers[0], "weight", amount=0.5)
    z = torch.randn(2, made.latent_dim).double()
    before = made.condition().prepare(z.shape[:-1]).value(0.0, z)
    with torch.no_grad():
        made.layers[0].weight_orig.mul_(2)
    after = made.condition().prepare(z.shape[:-1]).value(0.0, z)
    assert not before.equal(after)
    torch.testing.assert_close(after, published(made, 0.0, z), rtol=ROUNDING, atol=ROUNDING)


WRONG = [
    dict(zip(("image_shape", "hidden_channels", "strides"), arguments, strict=True))
    for arguments in [
        ((4, 4), (8,), None),
        ((1, 0, 4), (8,), None),
        ((1, 4, 4), (), None),
        ((1, 4, 4), (8, 0), None),
        ((1, 4, 4), (8,), (1,)),
        ((1, 4, 4), (8,), (3, 1)),
        ((1, 5, 4), (8,), (2, -2)),
        ((1, 4, 4), (8,), (2, 1)),
        ((1, 1, 4), (8,), (2, -2)),
    ]
]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
def test_what_makes_no_dynamics_is_refused(arguments):
    with pytest.raises(InvalidInputError, match="expected"):
        ConvolutionalDynamics(**arguments)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UnknownNameError, match="softplus"):
        ConvolutionalDynamics((1, 4, 4), activation="softplu")


def test_strides_that_come_back_are_many():
    for strides in itertools.permutations((2, -2, 1)):
        assert ConvolutionalDynamics((1, 4, 4), (2, 2), strides=strides).latent_dim == 16
