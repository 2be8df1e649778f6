"""Pictures show what models make, row by row."""

import numpy as np
import pytest
import torch

from tests.reporting.plots.figures import LIKELIHOODS, SHAPES, labels, model, shown
from vae_flows.errors import InvalidInputError
from vae_flows.likelihoods import (
    GaussianLikelihood,
)
from vae_flows.reporting import (
    image_grid,
    plot_interpolations,
    plot_marginals,
    plot_reconstructions,
    plot_samples,
    plot_traversals,
)


def test_image_grid_puts_images_row_by_row():
    dark, light = np.zeros((2, 1, 3, 4)), np.ones((2, 1, 3, 4))
    light[1, 0, 0, 0] = 0.25
    mosaic = shown(image_grid({"dark": dark, "light": light}))
    assert mosaic.shape == (3 + 1 + 3, 4 + 1 + 4, 3)
    assert mosaic[0, 0, 0] == 0.0
    np.testing.assert_array_equal(mosaic[4, 5], [0.25] * 3)


def test_grids_of_colour_keep_their_channels():
    image = np.arange(12.0).reshape(1, 3, 2, 2) / 12
    np.testing.assert_array_equal(shown(image_grid({"samples": image})), image[0].transpose(1, 2, 0))


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"flat": np.zeros((2, 16))},
        {"a": np.zeros((2, 1, 4, 4)), "b": np.zeros((3, 1, 4, 4))},
        {"two channels": np.zeros((2, 2, 4, 4))},
        {"none": np.zeros((0, 1, 4, 4))},
    ],
)
def test_grids_of_other_shapes_are_refused(rows):
    with pytest.raises(InvalidInputError, match="rows of one shape"):
        image_grid(rows)


@pytest.mark.parametrize("kind", SHAPES)
def test_reconstructions_show_originals_means_and_draws(kind):
    shape = SHAPES[kind]
    vae = model(shape, LIKELIHOODS[kind]() if kind in LIKELIHOODS else None)
    x = (torch.rand(3, *shape) * 255).round() / 255 if kind in LIKELIHOODS else torch.rand(3, *shape).round()
    figure = plot_reconstructions(vae, x)
    assert labels(figure) == ["original", "mean", "drawn"]
    channels = x[0].reshape(-1, *shape[-2:]).numpy()
    expected = np.broadcast_to(channels.transpose(1, 2, 0), (*shape[-2:], 3))
    height, width = shape[-2:]
    mosaic = shown(figure)
    np.testing.assert_allclose(mosaic[:height, :width], expected, atol=1e-7)  # rounding of float32
    drawn = mosaic[-height:, :width]
    mean = mosaic[height + 1 : 2 * height + 1, :width]
    assert not np.array_equal(drawn, mean)
    if kind == "without channels":
        assert set(np.unique(drawn)) <= {0.0, 1.0}
        assert len(np.unique(mean)) > 2


def test_several_models_share_the_originals():
    vae = model((1, 4, 4))
    figure = plot_reconstructions({"none": vae, "planar": vae}, torch.rand(2, 1, 4, 4).round())
    assert labels(figure) == ["original", "none, mean", "none, drawn", "planar, mean", "planar, drawn"]


def test_samples_are_draws_from_the_likelihood_at_the_means_below_them():
    mosaic = shown(plot_samples(model((1, 6, 6)), 400, width=40.0))
    mean, drawn = mosaic[:6], mosaic[-6:]
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    pixels = mean[..., 0] != 1.0  # not the white between images
    # Standard error of the difference of 400·36 Bernoulli draws to their means: at most 0.5 / 120; five of them.
    assert abs((drawn[..., 0] - mean[..., 0])[pixels].mean()) < 5 * 0.5 / 120


def test_the_same_seed_gives_the_same_picture_and_the_model_stays_as_it_was():
    vae = model((1, 4, 4)).train()
    first, second = (shown(plot_samples(vae, 5, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, shown(plot_samples(vae, 5, seed=4)))
    assert vae.training
    assert vae.decoder.training


class Coordinates(torch.nn.Module):
    """Logits of two pixels: the first follows z₁, the second z₂ at half the slope; z₃ does nothing."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.stack([4 * z[:, 0], 2 * z[:, 1]], -1).reshape(-1, 1, 1, 2)


def test_traversals_move_one_latent_and_put_the_strongest_first():
    vae = model((1, 1, 2), latent_dim=3)
    vae.decoder = Coordinates()
    figure = plot_traversals(vae, torch.ones(1, 1, 1, 2), num_latents=2, num_steps=5)
    assert labels(figure) == ["z₁", "z₂"]
    mosaic = shown(figure)[..., 0]
    first, second = mosaic[0, ::3], mosaic[0, 1::3]
    assert (np.diff(first) > 0).all()
    assert np.ptp(second) == 0
    # From the 1st to the 99th percentile of the standard Gaussian, ±2.33: 2,000 draws are within 0.35 of that.
    low, high = np.log(first[[0, -1]] / (1 - first[[0, -1]])) / 4
    assert low == pytest.approx(-2.33, abs=0.35)
    assert high == pytest.approx(2.33, abs=0.35)


def test_interpolations_go_from_one_image_to_the_other():
    vae = model((1, 1, 2))
    vae.decoder = Coordinates()
    start, end = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    for path in ("linear", "spherical"):
        mosaic = shown(plot_interpolations(vae, start, end, num_steps=4, path=path))[0, :, 0]
        np.testing.assert_array_equal(mosaic[:2], [0.0, 1.0])
        np.testing.assert_array_equal(mosaic[-2:], [1.0, 0.0])
        inner = mosaic[3:-3].reshape(-1)
        logits = np.log(inner[::3] / (1 - inner[::3]))
        if path == "linear":
            np.testing.assert_allclose(np.diff(logits), np.diff(logits)[0], atol=1e-4)  # rounding of float32


def test_tables_have_marginals_instead_of_pictures():
    vae = model((3,), GaussianLikelihood(event_dim=1, scale=1.0))
    x = torch.randn(200, 3)
    for make in (lambda: plot_reconstructions(vae, x), lambda: plot_samples(vae), lambda: plot_traversals(vae, x[:1])):
        with pytest.raises(InvalidInputError, match="plot_marginals"):
            make()
    figure = plot_marginals(vae, x, names=["a", "b", "c"])
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b", "c"]
    (data, _) = figure.axes[0].patches
    heights = np.asarray(data.get_xy())[:, 1]
    low, high = torch.cat([x[:, 0]]).aminmax()
    assert heights.max() > 0
    assert data.get_xy()[:, 0].min() <= float(low) + 1.0
    assert data.get_xy()[:, 0].max() >= float(high) - 1.0
    with pytest.raises(InvalidInputError, match="plot_samples"):
        plot_marginals(model((1, 4, 4)), torch.rand(5, 1, 4, 4))
