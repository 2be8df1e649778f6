import pytest
import torch

from vae_flows.cnf.activations import activation, available_activations
from vae_flows.errors import UnknownNameError


def inputs():
    """Points without zero, where ELU has a kink and either curvature is right."""
    return torch.linspace(-4, 4, 40, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", available_activations())
def test_slope_is_the_derivative(name):
    x = inputs()
    value, slope = activation(name)(x)
    (expected,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)
    (curvature,) = torch.autograd.grad(slope.sum(), x, retain_graph=True)
    torch.testing.assert_close(curvature, torch.autograd.grad(expected.sum(), x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", available_activations())
def test_quick_value_and_slope_are_the_differentiable_ones(name, dtype):
    """To the absolute accuracy of the type, and where an exponential overflows as well."""
    x = torch.cat([torch.linspace(-9, 9, 91), torch.tensor([-1e4, -100.0, 79.0, 81.0, 100.0, 1e4])]).to(dtype)
    value, slope = activation(name)(x)
    out = torch.empty_like(x)
    quick = activation(name).value_into(x, out)
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(out, value, rtol=rounding, atol=rounding)
    torch.testing.assert_close(quick, slope, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", available_activations())
def test_pull_back_is_that_of_automatic_differentiation(name):
    x = inputs()
    of_value, of_slope = torch.randn(2, 40, dtype=torch.float64)
    value, slope = activation(name)(x)
    (expected,) = torch.autograd.grad((value, slope), x, (of_value, of_slope))
    out = torch.empty_like(x)
    with torch.no_grad():
        kept = x if activation(name).keeps_input else value
        activation(name).pull_back(kept, slope, of_value, of_slope, out)
    torch.testing.assert_close(out.detach(), expected, rtol=1e-12, atol=1e-12)


def test_unknown_activation_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'softplus'"):
        activation("softpluss")
