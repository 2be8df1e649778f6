"""Latents stand beside the true posteriors and the prior."""

import numpy as np
import pytest
import torch

from tests.reporting.plots.figures import model
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError
from vae_flows.likelihoods import (
    BernoulliLikelihood,
)
from vae_flows.networks import MLPDecoder
from vae_flows.reporting import (
    draw_aggregate,
    plot_aggregate_posterior,
    plot_posteriors,
)
from vae_flows.vae import VAE


@pytest.mark.parametrize("flow", ["none", "planar", "ffjord"])
def test_posteriors_stand_beside_the_true_ones(flow):
    vae = model((1, 3, 3), flow=flow)
    figure = plot_posteriors({flow: vae}, torch.rand(2, 1, 3, 3).round(), num_cells=20)
    assert len(figure.axes) == 8
    true, approximate = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[1:3])
    for axes, density in zip(figure.axes[1:3], (true, approximate), strict=True):
        left, right, bottom, top = axes.images[0].get_extent()
        area = (right - left) * (top - bottom) / 400
        assert density.shape == (20, 20)
        assert density.sum() * area == pytest.approx(1.0, abs=0.05)  # the width of the cells


def test_more_latents_than_two_are_refused_or_said():
    vae, x = model((1, 4, 4), latent_dim=5), torch.rand(30, 1, 4, 4)
    with pytest.raises(InvalidInputError, match="two"):
        plot_posteriors(vae, x[:1])
    for projection, told in (("active", "the two most active of 5 latents"), ("pca", "principal components")):
        figure = plot_aggregate_posterior(vae, x, projection=projection, title="planar")
        draws = draw_aggregate(vae, x, projection=projection)
        assert told in figure._suptitle.get_text()
        for axes, points in zip(figure.axes, draws[:2], strict=True):
            np.testing.assert_array_equal(axes.collections[0].get_offsets(), points.numpy())
    with pytest.raises(InvalidInputError, match="two or more"):
        plot_aggregate_posterior(model((1, 4, 4), latent_dim=1, flow="none"), x)


def test_the_most_active_latents_are_found():
    class Encoder(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    class Posterior(torch.nn.Module):
        def forward(self, h: torch.Tensor) -> torch.distributions.Distribution:
            loc = torch.stack([0 * h[:, 0], 5 * h[:, 0], 0 * h[:, 0], 3 * h[:, 1]], -1)
            return torch.distributions.Independent(torch.distributions.Normal(loc, 0.1), 1)

    vae = VAE(Encoder(), MLPDecoder(4, (1, 2, 2), (4,)), Posterior(), BernoulliLikelihood(), latent_dim=4)
    reseed()
    assert draw_aggregate(vae, torch.rand(100, 1, 2, 2)).names == ("z₂", "z₄")
