import pytest
import torch

from vae_flows.cnf.activations import activation, available_activations
from vae_flows.errors import UnknownNameError


@pytest.mark.parametrize("name", available_activations())
def test_slope_is_the_derivative(name):
    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    value, slope = activation(name)(x)
    (expected,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)
    (curvature,) = torch.autograd.grad(slope.sum(), x, retain_graph=True)
    torch.testing.assert_close(curvature, torch.autograd.grad(expected.sum(), x)[0], rtol=1e-9, atol=1e-9)


def test_unknown_activation_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'softplus'"):
        activation("softpluss")
