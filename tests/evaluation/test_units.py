"""Bits per dimension are those of probabilities, whatever the unit and the likelihood of the values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn

import vae_flows as vf
from tests.seeds import numpy_generator, reseed
from vae_flows.benchmark.presets import PRESETS
from vae_flows.benchmark.report import collect_results
from vae_flows.data import Examples, Images, StreamedExamples, TensorExamples, from_arrays
from vae_flows.evaluation import estimate_likelihood, evaluate
from vae_flows.evaluation.units import bits_per_dim
from vae_flows.networks import MLPEncoder
from vae_flows.runs.evaluations import evaluate_run
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import METRICS, prepare, run_folder
from vae_flows.runs.settings import with_changes

SHAPE = (1, 3, 4)
ROUNDING = 1e-9  # of double precision, through some hundred operations


class Constant(nn.Module):
    """Decodes any z to the same numbers."""

    def __init__(self, value: float, count: int) -> None:
        super().__init__()
        self.value, self.count = value, count

    def forward(self, z: Tensor) -> Tensor:
        return z.new_full((*z.shape[:-1], self.count, *SHAPE[1:]), self.value)


def make_vae(likelihood: vf.likelihoods.Likelihood, value: float = 0.0) -> vf.VAE:
    reseed(3)
    encoder, decoder = MLPEncoder(SHAPE, (5,), 6), Constant(value, likelihood.parameters_per_pixel)
    return vf.VAE(encoder, decoder, vf.AmortizedPosterior(2, 6, flow="none"), likelihood).double()


def levels(count: int) -> Tensor:
    return torch.from_numpy(numpy_generator(0).integers(0, count, (40, *SHAPE)))


def test_bits_are_those_of_the_mass_of_each_bin():
    x = levels(256)
    result = evaluate(make_vae(vf.likelihoods.GaussianLikelihood(0.2), 0.4), images_of(x, 256))
    unit = bits_per_dim(result.num_pixels, result.log_bin_size)
    value, bin_size = x.numpy() / 255, 1 / 255
    normal = stats.norm(0.4, 0.2)
    mass = normal.cdf(value + bin_size / 2) - normal.cdf(value - bin_size / 2)
    # A density at the middle stands for its bin but for (bin / σ)² / 24 of its curvature, at most 9 here.
    assert unit.of(result.negative_log_likelihood_term) == pytest.approx(-np.log2(mass).mean(), abs=2.2e-4)
    assert result.bits_per_dim_elbo == unit.of(result.negative_elbo)


def images_of(x: Tensor, count: int) -> Images:
    array = x.numpy()
    return from_arrays(array, array[:1], array[:1], pixels="grey", white=count - 1).train  # type: ignore[return-value]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("count", [52, 256])  # of which 255 is a multiple of the steps, so that nothing is rounded
def test_bits_do_not_depend_on_the_unit_of_the_values(count: int, standardize: bool):
    """Levels in [0, 1] with bins 1 / (L − 1), or integers with bins of 1: the same probabilities, the same bits."""
    x, steps = levels(count), count - 1
    found = []
    for examples, scale in ((images_of(x, count), 1.0), (TensorExamples(x), float(steps))):
        vae = make_vae(vf.likelihoods.GaussianLikelihood(0.3 if standardize else 0.3 * scale))
        if standardize:
            vae.standardize(vf.Standardization.of([examples.batch(dtype=torch.float64)]).double())
        else:
            vae.decoder = Constant(0.4 * scale, 1)
            vae.encoder = nn.Sequential(Scaled(1 / scale), vae.encoder)
        result = evaluate(vae, examples, importance_samples=3)
        likelihood = estimate_likelihood(vae, examples, importance_samples=3)
        found.append((result.bits_per_dim_elbo, result.bits_per_dim, likelihood.negative_log_likelihood.bits_per_dim))
    # The model has single precision in its mean and deviation until it becomes double.
    assert found[0] == pytest.approx(found[1], rel=1e-6)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_densities_and_probabilities_are_told_alike():
    """A uniform density over [0, 1] and equal probabilities of all levels both cost the bits of a level."""
    x = levels(256)
    uniform = make_vae(vf.likelihoods.make_likelihood("continuous-bernoulli"), 0.0)
    equal = make_vae(vf.likelihoods.make_likelihood("categorical", levels=256), 0.0)
    costs = []
    for vae in (uniform, equal):
        result = evaluate(vae, images_of(x, 256))
        costs.append(bits_per_dim(12, result.log_bin_size).of(result.negative_log_likelihood_term))
    assert costs == pytest.approx([math.log2(255), math.log2(256)], rel=ROUNDING)


@pytest.mark.parametrize("wrong", [1, 0, -2, 2.5, "256", True])
def test_levels_are_an_integer_above_one(wrong: Any):
    grey = torch.zeros(2, 12, dtype=torch.uint8)
    for make in (
        lambda: Images(grey, SHAPE, levels=wrong),
        lambda: TensorExamples(grey, levels=wrong),
        lambda: StreamedExamples(TensorExamples(grey), levels=wrong),
    ):
        with pytest.raises(vf.InvalidInputError, match="levels: expected an integer above 1"):
            make()


def known_levels(tmp_path: Path) -> dict[str, tuple[Examples, int | None]]:
    generator = numpy_generator(1)
    bytes_, few = generator.integers(0, 256, (30, 4, 5), dtype=np.uint8), generator.integers(0, 17, (30, 4, 5))
    deep, shallow = tmp_path / "deep", tmp_path / "shallow"
    for folder, pixels in ((deep, bytes_.astype(np.uint16) * 257), (shallow, bytes_)):
        folder.mkdir()
        for number, picture in enumerate(pixels):
            Image.fromarray(picture).save(folder / f"{number}.png")
    np.save(tmp_path / "few.npy", few.astype(np.uint8))
    np.save(tmp_path / "values.npy", generator.random((30, 3)))
    load = vf.data.load

    def arrays(array: np.ndarray, **options: Any) -> Examples:
        return from_arrays(array, array, array, **options).test

    return {
        "bytes": (arrays(bytes_), 256),
        "fractions": (arrays(bytes_ / 255), 256),
        "few": (arrays(few, white=16), 17),
        "binary": (arrays(few > 8), 2),
        "drawn anew": (from_arrays(bytes_, bytes_, bytes_, pixels="binary").train, 2),
        "pictures": (load(str(shallow)).test, 256),
        "pictures, streamed": (load(str(shallow), stream=True).test, 256),
        "pictures of 16 bits": (load(str(deep)).test, 65536),
        "pictures of 16 bits, streamed": (load(str(deep), stream=True).test, 65536),
        "pictures of 16 bits as images": (load(str(deep), pixels="grey").test, 256),
        "file": (load(str(tmp_path / "few.npy"), white=16).test, 17),
        "file, streamed": (load(str(tmp_path / "few.npy"), white=16, stream=True).test, 17),
        "values": (load(str(tmp_path / "values.npy"), kind="values").test, None),
        "values, streamed": (load(str(tmp_path / "values.npy"), stream=True).test, None),
    }


def test_levels_are_known_wherever_data_come_from(tmp_path: Path):
    for name, (examples, expected) in known_levels(tmp_path).items():
        assert examples.levels == expected, name
        assert examples.take(2).to("cpu").levels == expected, name
        if expected:
            steps = examples.batch(dtype=torch.float64) * (expected - 1)
            # 8 bits store other levels than theirs by at most 1/510 of white.
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=max((expected - 1) / 510, 1e-2), msg=name)


@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian", "standardize": True}, {"likelihood": "laplace"}])
def test_runs_and_tables_tell_the_bits_of_their_test(options: dict[str, Any], tmp_path: Path):
    file = tmp_path / "grey.npz"
    np.savez(file, images=numpy_generator(0).integers(0, 256, (60, 6, 5), dtype=np.uint8))
    quick = {"training.batch_size": 20, "evaluation.importance_samples": 2, "compute.accelerator": "cpu"}
    settings = with_changes(PRESETS["smoke"].settings(str(file), "planar", 3), {**quick, **options})
    folder = run_folder(tmp_path / "out", "grey", settings.posterior, settings.seed)
    prepare(folder, settings)
    execute(folder)
    run = vf.Run(folder)
    metrics = run.metrics
    assert metrics is not None
    bits = metrics.test.bits_per_dim_elbo
    assert metrics.test.log_bin_size == (-math.log(255) if options else 0.0)
    assert (metrics.unit, metrics.in_unit(metrics.test.negative_elbo)) == ("bits/dim", pytest.approx(bits))
    (result,) = collect_results(tmp_path / "out").runs()
    for record in (run.to_record(), result):
        assert (record.unit, record.negative_elbo) == ("bits/dim", pytest.approx(bits))
        curve = [metrics.in_unit(epoch.validation_negative_elbo) for epoch in run.history]
        assert record.curve == pytest.approx(curve)
    assert f"{bits:.2f}" in str(vf.compare([folder]))
    later = evaluate_run(folder, importance_samples=2)
    mass = later.negative_elbo / 30 + (math.log(255) if options else 0.0)
    assert later.unit == "bits/dim"
    told = later.worded(later.negative_elbo).partition(" = ")[2].partition(" ")[0]
    assert float(told) == pytest.approx(mass / math.log(2), abs=1e-4)  # as it is told with four decimals
    # Runs of before have no such entry; their bounds were not of densities.
    plain = json.loads((folder / METRICS).read_text())
    del plain["nats_at_zero"]
    (folder / METRICS).write_text(json.dumps(plain))
    assert vf.Run(folder).metrics.nats_at_zero == 0.0  # type: ignore[union-attr]
