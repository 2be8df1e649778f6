"""Standardisation: computed on training examples, part of the model, undone in whatever it tells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import vae_flows as vf
from tests.seeds import reseed, torch_generator
from vae_flows.data import StreamedExamples, TensorExamples, as_data_set, load
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import evaluate
from vae_flows.likelihoods import BernoulliLikelihood, GaussianLikelihood, PoissonLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.standardization import Standardization
from vae_flows.training import ComputeSettings, TrainingSettings, train
from vae_flows.vae import VAE

ROUNDING = 1e-10  # float64, sums of some ten terms
SINGLE = 1e-5  # single precision, in which the statistics are kept
UNITS = torch.tensor([1e3, 1e-3, 7.0])
ORIGINS = torch.tensor([5e3, -2e-3, 0.0])


def points(count: int = 80) -> Tensor:
    return torch.randn(count, 3, generator=torch_generator()) * UNITS + ORIGINS


def images(count: int = 40) -> Tensor:
    scales = torch.tensor([1.0, 10.0]).reshape(2, 1, 1)
    return torch.randn(count, 2, 4, 5, generator=torch_generator()) * scales + 3


def make_vae(shape: tuple[int, ...] = (3,), standardization: Standardization | None = None) -> VAE:
    reseed(1)
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 6))
    decoder = nn.Sequential(nn.Linear(2, size), nn.Unflatten(-1, shape))
    likelihood = GaussianLikelihood(event_dim=len(shape))
    return VAE(encoder, decoder, AmortizedPosterior(2, 6, "planar"), likelihood, standardization=standardization)


@pytest.mark.parametrize("sizes", [[80], [1, 79], [7] * 11 + [3]], ids=str)
def test_statistics_are_those_of_all_examples(sizes: list[int]):
    x = points().double()
    found = Standardization.of(x.split(sizes))
    torch.testing.assert_close(found.mean.double(), x.mean(0), rtol=SINGLE, atol=0)
    torch.testing.assert_close(found.scale.double(), x.std(0, correction=0), rtol=SINGLE, atol=0)


def test_images_have_one_mean_and_deviation_per_channel():
    x = images().double()
    found = Standardization.of(x.split(7))
    assert found.mean.shape == (2, 1, 1)
    torch.testing.assert_close(found.mean.double().flatten(), x.mean((0, 2, 3)), rtol=SINGLE, atol=0)
    torch.testing.assert_close(found.scale.double().flatten(), x.std((0, 2, 3), correction=0), rtol=SINGLE, atol=0)


def test_digits_do_not_cancel():
    x = 1e8 + torch.randn(1000, 1, generator=torch_generator(), dtype=torch.float64)
    found = Standardization.of(x.split(100))
    torch.testing.assert_close(found.scale.double(), x.std(0, correction=0), rtol=SINGLE, atol=0)


def test_constants_are_left_in_their_unit():
    x = torch.tensor([[0.1, 0.0, 1.0], [0.1, 0.0, 3.0]], dtype=torch.float64).repeat(33, 1)
    assert Standardization.of([x]).scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5), (2, 3)], ids=str)
def test_bounds_are_those_of_the_raw_data(shape: tuple[int, ...]):
    """log p(x) = log p(x̃) − Σ log s, with the same draws of z."""
    x = torch.randn(9, *shape, generator=torch_generator(), dtype=torch.float64) * 5 + 2
    standardization = Standardization.of([x])
    raw, inner = make_vae(shape, standardization).double(), make_vae(shape).double()
    standardization = standardization.double()
    reseed(2)
    bound = raw.elbo(x)
    reseed(2)
    expected = inner.elbo(standardization(x))
    scale = standardization.scale.expand(shape)
    jacobian = -sum(math.log(value) for value in scale.flatten().tolist())
    torch.testing.assert_close(bound.kl, expected.kl, rtol=ROUNDING, atol=0)
    torch.testing.assert_close(bound.log_likelihood, expected.log_likelihood + jacobian, rtol=ROUNDING, atol=ROUNDING)
    reseed(2)
    importance = raw.importance_weighted_bound(x, 5)
    reseed(2)
    torch.testing.assert_close(importance, inner.importance_weighted_bound(standardization(x), 5) + jacobian)
    z = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(raw.decode(z).log_prob(x), raw.log_likelihood(x, z), rtol=ROUNDING, atol=ROUNDING)


def test_the_density_of_the_raw_data_integrates_to_one():
    vae = make_vae((1,), Standardization.of([points()[:, :1]])).double()
    grid = torch.linspace(-20e3, 30e3, 20_001, dtype=torch.float64).unsqueeze(-1)
    density = vae.decode(torch.zeros(1, 2, dtype=torch.float64)).log_prob(grid).exp()
    total = torch.trapezoid(density, grid[:, 0]).item()
    assert total == pytest.approx(1, abs=1e-6)  # of the trapezoidal rule, and of the tails


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)], ids=str)
def test_samples_and_reconstructions_are_of_the_raw_data(shape: tuple[int, ...]):
    x = torch.randn(9, *shape, generator=torch_generator(), dtype=torch.float64) * 5 + 2
    standardization = Standardization.of([x])
    raw, inner = make_vae(shape, standardization).double(), make_vae(shape).double()
    mean, scale = standardization.mean.double(), standardization.scale.double()
    reseed(3)
    found = raw.generate(4), raw.reconstruct(x)
    reseed(3)
    expected = inner.generate(4), inner.reconstruct((x - mean) / scale)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other * scale + mean, rtol=ROUNDING, atol=ROUNDING)
    z = torch.randn(6, 2, dtype=torch.float64)
    reseed(4)
    drawn = raw.decode(z).sample((5,))
    reseed(4)
    torch.testing.assert_close(drawn, inner.decode(z).sample((5,)) * scale + mean, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(raw.decode(z).variance, inner.decode(z).variance * scale**2, rtol=ROUNDING, atol=0)


def test_pyros_model_and_guide_have_the_bound_of_elbo():
    vae = make_vae(standardization=Standardization.of([points()])).double()
    x = points(6).double()
    reseed(5)
    expected = vae.elbo(x).elbo.sum().item()
    reseed(5)
    assert -Trace_ELBO().loss(vae.model, vae.guide, x) == pytest.approx(expected, rel=ROUNDING)
    pyro.clear_param_store()


def test_units_change_neither_training_nor_the_numbers_but_by_their_logarithm():
    settings = TrainingSettings(max_epochs=3, batch_size=16, learning_rate=5e-3, warmup_epochs=1)
    results, vaes = [], []
    units = torch.tensor([2.0**10, 2.0**-10, 8.0])  # powers of two, which round nothing
    for scale in (torch.ones(3), units):
        vae = make_vae()
        data = as_data_set(torch.randn(80, 3, generator=torch_generator()) * scale, standardize=True)
        result = train(vae, data, settings, compute=ComputeSettings("cpu"), progress=False)
        results.append((result.best_validation_negative_elbo, evaluate(vae, data).negative_elbo))
        vaes.append(vae)
    shift = units.log().sum().item()
    for first, second in zip(*results, strict=True):
        assert second - first == pytest.approx(shift, abs=1e-4)  # single precision, three epochs
    reseed(1)
    sample = vaes[0].generate(5)
    reseed(1)
    torch.testing.assert_close(vaes[1].generate(5) / units, sample, rtol=1e-3, atol=1e-4)


def test_training_gives_the_model_what_the_data_set_asks_for(tmp_path: Path):
    data = as_data_set(points(), standardize=True)
    assert data.standardization is not None
    train_part = data.train.batch(dtype=torch.float64)
    torch.testing.assert_close(data.standardization.mean.double(), train_part.mean(0), rtol=SINGLE, atol=0)
    settings = TrainingSettings(max_epochs=2, batch_size=16, warmup_epochs=1)
    vae, compute = make_vae(), ComputeSettings("cpu")
    whole = train(vae, data, settings, folder=tmp_path, compute=compute, progress=False)
    assert vae.standardization is not None
    assert vae.standardization is not data.standardization
    again = make_vae()
    assert train(again, data, settings, folder=tmp_path, compute=compute, resume=True, progress=False) == whole
    fresh = make_vae(standardization=data.standardization)
    vf.training.load_weights(fresh, tmp_path)
    assert evaluate(fresh, data).negative_elbo == evaluate(vae, data).negative_elbo


def test_a_saved_model_keeps_its_standardisation(tmp_path: Path):
    encoder, decoder = MLPEncoder((2, 4, 5), (8,), 6), MLPDecoder(2, (2, 4, 5), (8,))
    standardization = Standardization.of([images()])
    posterior, likelihood = AmortizedPosterior(2, 6, "planar"), GaussianLikelihood(scale=1.0)
    vae = VAE(encoder, decoder, posterior, likelihood, standardization=standardization)
    vae.save_pretrained(tmp_path)
    loaded = VAE.from_pretrained(tmp_path)
    assert loaded.standardization is not None
    assert torch.equal(loaded.standardization.scale, standardization.scale)
    reseed(1)
    expected = vae.eval().generate(3)
    reseed(1)
    assert torch.equal(loaded.generate(3), expected)
    VAE(encoder, decoder, posterior, likelihood).save_pretrained(tmp_path)
    assert VAE.from_pretrained(tmp_path).standardization is None


def test_data_that_are_streamed_or_loaded_are_standardised_alike(tmp_path: Path):
    np.save(tmp_path / "a.npy", points().numpy())
    np.savetxt(tmp_path / "a.csv", points().double().numpy(), delimiter=",")
    found = [
        load(tmp_path / "a.npy", standardize=True).standardization,
        load(tmp_path / "a.npy", standardize=True, stream=True).standardization,
        load(tmp_path / "a.csv", standardize=True).standardization,
        as_data_set(StreamedExamples(TensorExamples(points())), standardize=True).standardization,
    ]
    for standardization in found:
        assert standardization is not None
        torch.testing.assert_close(standardization.scale, found[0].scale)  # pyright: ignore[reportOptionalMemberAccess]
    assert load(tmp_path / "a.npy").standardization is None


@pytest.mark.parametrize("likelihood", [BernoulliLikelihood(1), PoissonLikelihood(event_dim=1)], ids=["bits", "counts"])
def test_likelihoods_of_other_than_real_numbers_are_refused(likelihood: vf.likelihoods.Likelihood):
    x = torch.randint(0, 2, (40, 3), generator=torch_generator()).float()
    vae = VAE(nn.Linear(3, 6), nn.Linear(2, 3), AmortizedPosterior(2, 6, "planar"), likelihood)
    settings = TrainingSettings(max_epochs=1, warmup_epochs=0)
    with pytest.raises(InvalidInputError, match="expected a likelihood of a density on all real numbers"):
        train(vae, as_data_set(x, standardize=True), settings, compute=ComputeSettings("cpu"), progress=False)
    with pytest.raises(InvalidInputError, match="expected a likelihood of a density on all real numbers"):
        VAE(
            nn.Linear(3, 6),
            nn.Linear(2, 3),
            AmortizedPosterior(2, 6),
            likelihood,
            standardization=Standardization((3,)),
        )


def test_examples_of_another_shape_are_refused():
    with pytest.raises(InvalidInputError, match=r"expected floating-point examples of shape \(\*batch, 3\)"):
        make_vae(standardization=Standardization.of([points()])).elbo(torch.zeros(2, 4))
    with pytest.raises(InvalidInputError, match="at least one batch"):
        Standardization.of([])
    with pytest.raises(InvalidInputError, match="positive sizes"):
        Standardization(())
