"""A transform of the first coordinates: all that its part finds comes through."""

import pytest
import torch

from vae_flows.cnf import ContinuousTransform, ExactDivergence, KineticEnergy
from vae_flows.errors import InvalidInputError
from vae_flows.transforms import IdentityTransform, PartialTransform, PlanarTransform, ReverseTransform

ROUNDING = 1e-12


def planar():
    return PlanarTransform(torch.randn(4, 3).double(), torch.randn(4, 3).double(), torch.randn(4).double())


def test_value_log_det_and_score_are_those_of_the_part_beside_the_others():
    part = planar()
    transform = PartialTransform(part, 5)
    x = torch.randn(2, 4, 5).double()
    found = transform.evaluate_with_score(x, torch.sin(x))
    alone = part.evaluate_with_score(x[..., :3], torch.sin(x[..., :3]))
    assert found.y[..., :3].equal(alone.y)
    assert found.y[..., 3:].equal(x[..., 3:])
    assert found.log_det.equal(alone.log_det)
    assert found.score.equal(torch.cat([alone.score, torch.sin(x[..., 3:])], -1))
    back = transform.evaluate_inverse(found.y.clone())
    torch.testing.assert_close(back.x, x, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(back.log_det, found.log_det, rtol=ROUNDING, atol=ROUNDING)


def test_the_others_are_expanded_with_the_part():
    transform = PartialTransform(planar(), 5)
    y = transform(torch.randn(5).double())
    assert y.shape == (4, 5)
    assert y[0, 3:].equal(y[3, 3:])


def test_estimates_regularisation_and_work_are_passed_on():
    part = ContinuousTransform(lambda t, z: -z, regularizers=[KineticEnergy(1.0)])
    part.latent_dim = 2
    transform = PartialTransform(part, 3)
    assert transform.is_estimated
    assert transform.is_regularized
    found = transform.evaluate(torch.randn(4, 3))
    assert found.regularization.shape == (4,)
    assert found.work.forward_evaluations > 0
    assert transform.exact() is transform  # as the exact trace of a function costs more
    exact = ContinuousTransform(lambda t, z: -z, divergence=ExactDivergence())
    exact.latent_dim = 2
    assert not PartialTransform(exact, 3).is_estimated


@pytest.mark.parametrize("part", [IdentityTransform(None, ()), ReverseTransform(4, ())], ids=["any", "larger"])
def test_parts_that_do_not_fit_are_refused(part):
    with pytest.raises(InvalidInputError, match="at most 3"):
        PartialTransform(part, 3)
