"""Toy densities: what is drawn has the density that is claimed."""

import math

import pytest
import torch

from tests.seeds import reseed, torch_generator
from vae_flows.data.toy import available_toys, toy_density
from vae_flows.errors import InvalidInputError, UnknownNameError

COUNT = 10_000
STANDARD_ERRORS = 5  # two-sided false-alarm rate 6e-7
QUADRATURE = 1e-6  # of smooth densities on the grid below, and what lies outside of it
LIMIT = 5.0


def generator(seed=0):
    return torch_generator(seed)


def grid(cells, limit=LIMIT):
    centres = limit * ((torch.arange(cells, dtype=torch.float64) + 0.5) * (2 / cells) - 1)
    return torch.cartesian_prod(centres, centres), (2 * limit / cells) ** 2


@pytest.mark.parametrize("name", sorted(set(available_toys()) - {"checkerboard"}))
def test_densities_integrate_to_one(name):
    x, area = grid(140)
    assert (toy_density(name).log_density(x).exp().sum() * area).item() == pytest.approx(1.0, abs=QUADRATURE)


def test_the_checkerboard_integrates_to_one():
    x, area = grid(100)  # whose cells do not cross the squares' edges
    assert (toy_density("checkerboard").log_density(x).exp().sum() * area).item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("name", available_toys())
def test_samples_follow_the_density(name):
    """Means of functions that tell the plane apart agree: under the samples, and under the density on a grid."""
    toy = toy_density(name)
    x, area = grid(120)
    weights = toy.log_density(x).exp() * area
    samples = toy.sample(COUNT, generator()).double()
    reseed(1)
    frequencies = torch.randn(12, 2, dtype=torch.float64)

    def features(points):
        phases = points @ frequencies.mT
        return torch.cat([phases.cos(), phases.sin(), points, points**2], -1)

    expected, observed = weights @ features(x), features(samples)
    error = observed.std(0) / math.sqrt(COUNT)
    edges = 0.01 if name == "checkerboard" else 0.0  # cells of the grid stand for what varies within them
    assert ((observed.mean(0) - expected).abs() < STANDARD_ERRORS * error + edges).all()


def test_entropies_in_closed_form():
    def entropy(name):
        toy = toy_density(name)
        values = -toy.log_density(toy.sample(COUNT, generator()).double())
        return values.mean().item(), STANDARD_ERRORS * values.std().item() / math.sqrt(COUNT)

    mean, error = entropy("8gaussians")  # six standard deviations apart: as good as disjoint
    overlap = 0.003
    assert mean == pytest.approx(math.log(8) + math.log(2 * math.pi * math.e / 8), abs=error + overlap)
    assert entropy("checkerboard") == (pytest.approx(math.log(32)), pytest.approx(0.0, abs=1e-12))


def test_the_density_of_a_ring_is_a_bessel_function():
    x = torch.tensor([[0.75, 0.0], [0.0, 1.6], [2.0, 2.0]], dtype=torch.float64)
    radius, rings, variance = x.norm(dim=-1, keepdim=True), 0.75 * torch.arange(1.0, 5.0).double(), 0.08**2
    scaled = torch.special.i0e(radius * rings / variance) * torch.exp(-((radius - rings) ** 2) / (2 * variance))
    expected = (scaled.mean(-1) / (2 * math.pi * variance)).log()
    torch.testing.assert_close(toy_density("rings").log_density(x), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", available_toys())
def test_draws_follow_the_generator_alone(name):
    toy = toy_density(name)
    first, state = toy.sample(50, generator(3)), torch.get_rng_state()
    assert first.shape == (50, 2)
    assert first.dtype == torch.get_default_dtype()
    assert torch.equal(toy.sample(50, generator(3)), first)
    assert not torch.equal(toy.sample(50, generator(4)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.abs() < LIMIT).all()


def test_a_pinwheel_has_five_like_blades():
    x = toy_density("pinwheel").sample(COUNT, generator()).double()
    turn = 2 * math.pi / 5
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    moments = torch.stack([x.mean(0), (x @ rotation).mean(0)])
    error = STANDARD_ERRORS * x.std(0) / math.sqrt(COUNT)
    assert (moments.abs() < error).all()
    assert x.norm(dim=-1).mean() == pytest.approx(2.0, abs=0.05)


def test_wrong_requests_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean '8gaussians'"):
        toy_density("8gausians")
    with pytest.raises(InvalidInputError, match="toy density 'moons' count: expected a positive integer, got 0"):
        toy_density("moons").sample(0)


@pytest.mark.parametrize("name", [None, 5, ["rings"]])
def test_names_of_another_type_are_refused(name):
    with pytest.raises(UnknownNameError, match="toy density"):
        toy_density(name)


@pytest.mark.parametrize("name", available_toys())
@pytest.mark.parametrize(
    "points",
    [[[0.0, 0.0]], torch.zeros(2), torch.zeros(3, 3), torch.zeros(2, 3, 2), torch.zeros(3, 2, dtype=torch.int64)],
    ids=["list", "1-D", "of space", "3-D", "integers"],
)
def test_points_are_pairs_of_floating_point(name, points):
    with pytest.raises(InvalidInputError, match=f"toy density '{name}': expected points of floating point"):
        toy_density(name).log_density(points)


@pytest.mark.parametrize("wrong", [{"count": True}, {"count": 2.0}, {"count": 3, "generator": 0}])
def test_draws_need_a_count_and_a_generator(wrong):
    with pytest.raises(InvalidInputError, match="toy density 'rings'"):
        toy_density("rings").sample(**wrong)
