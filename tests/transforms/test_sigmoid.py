"""The map between numbers and the unit interval."""

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import SigmoidTransform

ROUNDING = 1e-10  # of logits near the borders, where a digit of y is many of x


@pytest.mark.parametrize("margin", [1e-6, 0.05, 0.4])
def test_inverse_and_log_det_are_those_of_automatic_differentiation(margin):
    transform = SigmoidTransform(4, margin)
    x = 2 * torch.randn(5, 4).double()
    y, log_det = transform.forward_with_log_det(x)
    jacobians = torch.stack([torch.autograd.functional.jacobian(transform._call, one) for one in x])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians).logabsdet, rtol=ROUNDING, atol=ROUNDING)
    back, of_inverse = transform.inverse_with_log_det(y)
    torch.testing.assert_close(back, x, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(of_inverse, log_det, rtol=ROUNDING, atol=ROUNDING)


def test_the_borders_of_the_interval_have_finite_logits():
    x = SigmoidTransform(2, 0.05).inv(torch.tensor([0.0, 1.0]).double())
    torch.testing.assert_close(x, torch.tensor([0.05, 0.95]).double().logit())


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_numbers_beyond_the_margin_are_refused(value):
    with pytest.raises(InvalidInputError, match="Scale pixels"):
        SigmoidTransform(2).inv(torch.tensor([0.5, value]))


@pytest.mark.parametrize("margin", [0.0, 0.5, -0.1])
def test_a_margin_out_of_range_is_refused(margin):
    with pytest.raises(InvalidInputError, match="between 0 and 1/2"):
        SigmoidTransform(2, margin)
