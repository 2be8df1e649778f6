"""Levels to real numbers and back: cells, bounds, and probabilities known in closed form."""

import math

import pytest
import torch

from tests.seeds import reseed
from vae_flows.cnf import ImageFlow, ODESolver, QuantizedDensity, UniformDequantization, VariationalDequantization
from vae_flows.errors import InvalidInputError

STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7
GRID = 1e-3
SHAPE = (1, 1, 2)


def noises(levels):
    learned = VariationalDequantization(SHAPE, levels, hidden_channels=4)
    for parameter in learned.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return {"uniform": UniformDequantization(levels), "variational": learned}


def images_of(levels, count):
    return torch.randint(0, levels, (count, *SHAPE)) / (levels - 1)


@pytest.mark.parametrize("name", ["uniform", "variational"])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_draws_lie_in_the_cells_and_come_back(name, levels):
    reseed()
    noise, images = noises(levels)[name], images_of(levels, 500)
    y, _ = noise(images)
    assert ((y >= 0) & (y <= 1)).all()
    assert noise.quantize(y).equal(images)


@torch.no_grad()
@pytest.mark.parametrize("name", ["uniform", "variational"])
@pytest.mark.parametrize("levels", [2, 3, 256])
def test_the_bound_is_that_of_the_probability_of_a_cell(name, levels):
    # A fresh flow is a Gaussian behind logits, whose cells have differences of Φ as probabilities; exp of the bound is
    # an unbiased estimate of them.
    reseed()
    count, margin = 20_000, 1e-6
    density = QuantizedDensity(ImageFlow(SHAPE, hidden_channels=(2,), logit_margin=margin), noises(levels)[name])
    density = density.double().eval()
    image = images_of(levels, 1).double()
    found = density(image.expand(count, *SHAPE))
    level = image * (levels - 1)
    edges = torch.stack([level, level + 1]) / levels
    edges = torch.distributions.Normal(0.0, 1.0).cdf((margin + (1 - 2 * margin) * edges).logit())
    probability = (edges[1] - edges[0]).prod().item()
    ratios = found.bound.exp() / probability
    error = ratios.std().item() / math.sqrt(count)
    assert ratios.mean().item() == pytest.approx(1, abs=STANDARD_ERRORS * error + 1e-9)
    spread = found.bound.std().item() / math.sqrt(count)
    assert found.bound.mean().item() <= math.log(probability) + STANDARD_ERRORS * spread + 1e-9
    expected = -found.bound / (2 * math.log(2))
    torch.testing.assert_close(found.bits_per_dim, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_learned_noise_is_a_density():
    # Weights of draws by a uniform density of which the learned one is the target average to one.
    reseed()
    noise, image = noises(4)["variational"], images_of(4, 1)
    y, log_q = noise(image.expand(50_000, *SHAPE))
    cell = 2 * math.log(4)
    inverse = (cell - log_q).exp()  # E_q[1 / q] is the volume of the cell, here as a part of itself
    error = inverse.std().item() / math.sqrt(len(y))
    assert inverse.mean().item() == pytest.approx(1, abs=STANDARD_ERRORS * error)


def test_learned_noise_learns_and_tightens_the_bound():
    reseed()
    flow = ImageFlow(SHAPE, hidden_channels=(2,), solver=ODESolver(method="rk4", options={"step_size": 1.0}))
    density = QuantizedDensity(flow, VariationalDequantization(SHAPE, 2, hidden_channels=8))
    optimizer = torch.optim.Adam(density.dequantization.parameters(), lr=1e-2)
    for _ in range(150):
        loss = -density(images_of(2, 256)).bound.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images = images_of(2, 4000)
    with torch.no_grad():
        learned = density(images).bound
        uniform = QuantizedDensity(flow, UniformDequantization(2))(images).bound
    gain = learned.mean() - uniform.mean()
    error = math.hypot(learned.std().item(), uniform.std().item()) / math.sqrt(len(images))
    assert gain > STANDARD_ERRORS * error


def test_samples_are_images_of_that_many_levels():
    flow = ImageFlow((1, 4, 4), num_scales=2, hidden_channels=(2,))
    drawn = QuantizedDensity(flow, UniformDequantization(3)).sample(50)
    assert drawn.shape == (50, 1, 4, 4)
    assert set(drawn.unique().tolist()) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize(
    "images",
    [
        torch.full((1, *SHAPE), 0.3),
        torch.full((1, *SHAPE), 2.0),
        torch.full((1, *SHAPE), math.nan),
        -torch.ones(1, *SHAPE),
    ],
    ids=["between levels", "above one", "NaN", "below zero"],
)
def test_pixels_without_a_level_are_refused(images):
    with pytest.raises(InvalidInputError, match="levels"):
        UniformDequantization(3)(images)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match="logit_margin"):
        QuantizedDensity(ImageFlow(SHAPE, logit_margin=None))
    with pytest.raises(InvalidInputError, match="shape"):
        QuantizedDensity(ImageFlow(SHAPE), VariationalDequantization((1, 2, 2)))
    with pytest.raises(InvalidInputError, match="images"):
        QuantizedDensity(ImageFlow(SHAPE))(torch.zeros(3, 2))
    with pytest.raises(InvalidInputError, match="at least 2"):
        UniformDequantization(1)
