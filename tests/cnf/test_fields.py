import pytest
import torch
from torch import nn

from vae_flows.cnf import FunctionField
from vae_flows.errors import InvalidInputError


def curl(t, z):
    return torch.stack([z[..., 0] ** 2 * z[..., 1], torch.sin(z[..., 0]) + t * z[..., 1] ** 3], -1)


def trace(t, z):
    return 2 * z[..., 0] * z[..., 1] + 3 * t * z[..., 1] ** 2


@pytest.mark.parametrize("grad", [True, False])
def test_trace_and_quadratic_form_of_a_users_function(grad):
    z, t = torch.randn(5, 4, 2, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    field = FunctionField(curl)
    with torch.set_grad_enabled(grad):
        dz, got = field.with_trace().value_and_trace(t, z)
        _, form = field.with_probes(z.unsqueeze(0)).value_and_trace(t, z)
        _, mean = field.with_probes(torch.stack([z, 3 * z])).value_and_trace(t, z)
    torch.testing.assert_close(dz, curl(t, z))
    torch.testing.assert_close(got, trace(t, z))
    torch.testing.assert_close(mean, 5 * form)
    assert dz.requires_grad == got.requires_grad == grad


def test_gradients_of_the_trace_reach_the_functions_parameters():
    scale = torch.tensor(2.0, requires_grad=True)
    _, trace = FunctionField(lambda t, z: scale * z).with_trace().value_and_trace(0.0, torch.randn(3, 2))
    (gradient,) = torch.autograd.grad(trace.sum(), scale)
    assert float(gradient) == pytest.approx(6.0)


@pytest.mark.parametrize("function", [lambda t, z: torch.ones_like(z), lambda t, z: torch.zeros_like(z) + t])
def test_constant_fields_have_no_divergence(function):
    z = torch.randn(3, 2, requires_grad=True)
    assert torch.equal(FunctionField(function).with_trace().value_and_trace(0.0, z)[1], torch.zeros(3))


def test_modules_bring_their_parameters():
    module = nn.Bilinear(2, 2, 2)
    extra = torch.zeros(1)
    found = FunctionField(module, [extra]).with_trace().tensors()
    assert [id(tensor) for tensor in found] == [id(tensor) for tensor in (*module.parameters(), extra)]


def test_wrong_fields_are_refused():
    with pytest.raises(InvalidInputError, match="callable"):
        FunctionField(3)
    with pytest.raises(InvalidInputError, match="shape of z"):
        FunctionField(lambda t, z: z.sum()).value(torch.tensor(0.0), torch.zeros(3, 2))
