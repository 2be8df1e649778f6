"""Training and evaluation take data of any kind, shape and type by one conversion, and leave support to likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from tests.seeds import reseed, torch_generator
from vae_flows.data import StreamedExamples, TensorExamples, as_data_set
from vae_flows.errors import InvalidInputError
from vae_flows.evaluation import EvaluationResult, evaluate
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.posterior import AmortizedPosterior
from vae_flows.training import ComputeSettings, TrainingResult, TrainingSettings, train
from vae_flows.training.settings import Precision
from vae_flows.vae import VAE

SETTINGS = TrainingSettings(max_epochs=2, batch_size=16, learning_rate=5e-3, warmup_epochs=1)


def make_vae(shape: tuple[int, ...] = (5,)) -> VAE:
    """Build a small model of bits of any shape, whose initial weights are always the same."""
    reseed(1)
    size = torch.Size(shape).numel()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 6))
    decoder = nn.Sequential(nn.Linear(2, size), nn.Unflatten(-1, shape))
    return VAE(encoder, decoder, AmortizedPosterior(2, 6, "planar"), BernoulliLikelihood(event_dim=len(shape)))


def fit(vae: VAE, data: Any, precision: Precision = "32-true", **options: Any) -> TrainingResult:
    return train(vae, data, SETTINGS, compute=ComputeSettings("cpu", precision=precision), progress=False, **options)


def bits(count: int = 60, shape: tuple[int, ...] = (5,)) -> Tensor:
    return (torch.rand(count, *shape, generator=torch_generator()) < 0.3).to(torch.float32)


def numbers(result: EvaluationResult) -> tuple[Any, ...]:
    return result.negative_elbo, result.negative_elbo_standard_error, result.kl, result.num_images, result.num_pixels


class Rows(Dataset[Any]):
    """A data set that reads its rows one by one, with noise of its own where wanted."""

    def __init__(self, values: Tensor, *, labels: bool = False, flips: bool = False) -> None:
        self.values = values
        self.has_labels = labels
        self.flips = flips

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        value = self.values[index]
        if self.flips:
            value = torch.where(torch.rand(value.shape) < 0.1, 1 - value, value)
        return (value, index) if self.has_labels else value


WAYS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x,
    "double": lambda x: x.double(),
    "integers": lambda x: x.to(torch.int16),
    "booleans": lambda x: x.bool(),
    "array": lambda x: x.numpy(),
    "integer array": lambda x: x.numpy().astype(np.uint32),
    "tensor data set": TensorDataset,
    "with labels": lambda x: TensorDataset(x, torch.arange(len(x))),
    "streamed": Rows,
    "streamed with labels": lambda x: Rows(x, labels=True),
    "streamed by processes": lambda x: StreamedExamples(Rows(x), num_workers=2),
    "examples": TensorExamples,
    "data set": as_data_set,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_that_data_are_given_changes_no_number(way: str):
    vae, same = make_vae(), make_vae()
    assert fit(vae, WAYS[way](bits())) == fit(same, as_data_set(bits()))
    data = as_data_set(bits()).test if way == "data set" else bits()
    assert numbers(evaluate(vae, WAYS[way](bits()))) == numbers(evaluate(same, data))


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (3, 4, 2), (2, 2, 2, 2)], ids=str)
def test_examples_may_have_any_shape(shape: tuple[int, ...]):
    vae = make_vae(shape)
    result = fit(vae, bits(shape=shape))
    assert len(result.history) == 2
    scored = evaluate(vae, bits(10, shape), importance_samples=3)
    assert (scored.num_images, scored.num_pixels) == (10, torch.Size(shape).numel())


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_batches_have_the_type_of_the_model(precision: Precision, monkeypatch: pytest.MonkeyPatch):
    vae, seen = make_vae(), set()
    elbo = vae.elbo

    def recorded(x: Tensor, *arguments: Any) -> Any:
        seen.add(x.dtype)
        return elbo(x, *arguments)

    monkeypatch.setattr(vae, "elbo", recorded)
    fit(vae, bits().double(), precision)
    assert seen == {torch.float64 if precision == "64-true" else torch.float32}


@pytest.mark.parametrize("data", [bits() - 1, bits() * 255, TensorDataset(bits() * 2)], ids=["below", "levels", "set"])
def test_values_that_the_likelihood_has_no_probability_for_are_told_of(data: Any):
    with pytest.raises(InvalidInputError, match=r"BernoulliLikelihood values: expected finite values in \[0, 1\]"):
        fit(make_vae(), data)
    with pytest.raises(InvalidInputError, match=r"BernoulliLikelihood values: expected finite values in \[0, 1\]"):
        evaluate(make_vae(), data)


@pytest.mark.parametrize("data", [None, "mnist", [[1.0]], 3, {"train": bits()}], ids=str)
def test_what_is_no_data_is_told_of(data: Any):
    with pytest.raises(InvalidInputError, match="data: expected a tensor or an array, a map-style data set"):
        fit(make_vae(), data)
    with pytest.raises(InvalidInputError, match="data: expected a tensor or an array, a map-style data set"):
        evaluate(make_vae(), data)


def test_a_run_on_a_tensor_goes_on_with_the_same_tensor_alone(tmp_path: Path):
    whole = fit(make_vae(), bits(), folder=tmp_path / "whole")
    part = TrainingSettings(**{**vars(SETTINGS), "max_epochs": 1})
    train(make_vae(), bits(), part, folder=tmp_path / "part", compute=ComputeSettings("cpu"), progress=False)
    assert fit(make_vae(), bits(), folder=tmp_path / "part", resume=True) == whole
    with pytest.raises(RuntimeError, match="training images = "):
        fit(make_vae(), 1 - bits(), folder=tmp_path / "part", resume=True)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_streamed_run_goes_on_exactly_with_the_draws_of_its_data_set(tmp_path: Path, num_workers: int):
    def data(workers: int = num_workers) -> StreamedExamples:
        return StreamedExamples(Rows(bits(), flips=True), num_workers=workers)

    whole = fit(make_vae(), data())
    part = TrainingSettings(**{**vars(SETTINGS), "max_epochs": 1})
    train(make_vae(), data(), part, folder=tmp_path, compute=ComputeSettings("cpu"), progress=False)
    # in another process there are other workers, and the draws before were none of this run
    torch.rand(3)
    vae, same = make_vae(), make_vae()
    assert fit(vae, data(2 - num_workers), folder=tmp_path, resume=True) == whole
    assert fit(same, data()) == whole
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in vae.state_dict().items())
    assert whole != fit(make_vae(), bits())
