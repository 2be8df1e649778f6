"""Active units of a linear-Gaussian model, where Var(E[z | x]) is the prior's variance less the posterior's."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.linear_gaussian import LinearGaussianVAE, diagonal, exact, weight
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import active_units

ERRORS = 5  # standard errors allowed: a false alarm in 1.7 million comparisons
IMAGES = 4000


def with_unused_unit(make):
    matrix = weight(latent_dim=3)
    matrix[:, 1] = 0
    return LinearGaussianVAE(make, matrix)


@pytest.mark.parametrize("samples", [2, 20])
def test_variances_are_those_of_the_closed_form(samples):
    vae = with_unused_unit(exact)
    found = active_units(vae, vae.data(IMAGES), num_samples=samples)
    posterior = vae.encoder.covariance.diagonal()
    truth = 1 - posterior
    error = (truth + posterior / samples) * (2 / IMAGES) ** 0.5  # of a Gaussian's variance, draws' noise included
    assert ((found.variances - truth).abs() < ERRORS * error).all()


def test_unused_units_are_found():
    vae = with_unused_unit(exact)
    found = active_units(vae, vae.data(IMAGES))
    assert found.is_active.tolist() == [True, False, True]
    assert found.count == 2


def test_a_collapsed_posterior_has_no_active_unit():
    vae = with_unused_unit(diagonal(ignore=True))
    assert active_units(vae, vae.data(IMAGES)).count == 0


def test_wrong_use_is_told():
    vae = with_unused_unit(exact)
    with pytest.raises(InvalidInputError, match="two draws or more"):
        active_units(vae, vae.data(5), num_samples=1)
    with pytest.raises(InvalidInputError, match="two images or more"):
        active_units(vae, vae.data(1))
    with pytest.raises(InvalidInputError, match="threshold"):
        active_units(vae, vae.data(5), threshold=-1.0)
    assert torch.is_grad_enabled()
