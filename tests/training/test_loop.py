from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_flows.data import DataSet
from vae_flows.errors import InvalidInputError
from vae_flows.training import ComputeSettings, TrainingResult, TrainingSettings, load_weights, train
from vae_flows.training.loop import _launch
from vae_flows.training.settings import Precision
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SameWeights = Callable[[VAE, VAE], bool]
WorsenAfter = Callable[[VAE, int], None]

BATCHES = 3  # of 20, 20 and 10 images


def test_training_improves_the_bound(make_vae: MakeVAE, make_data: Callable[..., DataSet], fit: Fit):
    result = fit(make_vae(), make_data(300, 300, 1), learning_rate=0.02, max_epochs=15, evaluation_batch_size=100)
    first, last = result.history[0], result.history[-1]
    # The entropy is 5.9 nats, a fresh model has 11, and the standard error of a mean of 300 images is below 0.2.
    assert last.train_negative_elbo < first.train_negative_elbo - 1
    assert last.validation_negative_elbo < first.validation_negative_elbo - 1


def test_the_history_records_each_epoch(make_vae: MakeVAE, fit: Fit):
    result = fit(make_vae())
    assert [record.epoch for record in result.history] == [1, 2, 3, 4, 5]
    assert [record.beta for record in result.history] == [1 / 3, 2 / 3, 1, 1, 1]
    assert all(record.seconds > 0 and record.examples_per_second > 0 for record in result.history)
    assert all(record.evaluations_per_solve is None for record in result.history)
    assert result.best_validation_negative_elbo == min(record.validation_negative_elbo for record in result.history)
    assert result.forward_evaluations is None
    assert not result.stopped_early


def test_the_same_seed_gives_the_same_result(make_vae: MakeVAE, fit: Fit, same_weights: SameWeights):
    first, second, other = make_vae(), make_vae(), make_vae()
    result = fit(first)
    torch.rand(3)
    assert fit(second) == result
    assert same_weights(first, second)
    assert fit(other, seed=1) != result


def test_the_global_random_numbers_and_the_modes_stay_as_they_were(make_vae: MakeVAE, fit: Fit):
    vae = make_vae().train()
    vae.decoder.eval()
    modes, state = [part.training for part in vae.modules()], torch.random.get_rng_state()
    fit(vae)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in vae.modules()] == modes


def test_the_model_ends_with_the_weights_of_its_best_epoch(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, worsen_after: WorsenAfter, tmp_path: Path
):
    vae, best, last, until_best = make_vae(), make_vae(), make_vae(), make_vae()
    worsen_after(vae, 3 * BATCHES)
    result = fit(vae, folder=tmp_path)
    assert result.best_epoch <= 3
    load_weights(best, tmp_path)
    load_weights(last, tmp_path / "last.ckpt")
    assert same_weights(vae, best)
    assert not same_weights(vae, last)
    fit(until_best, max_epochs=result.best_epoch)
    assert same_weights(vae, until_best)


def test_training_stops_when_patience_runs_out(make_vae: MakeVAE, fit: Fit):
    result = fit(make_vae(), max_epochs=20, learning_rate=1e-30, warmup_epochs=3, patience=2)
    # The weights stand still, and validation draws the same numbers each time: epoch 1 remains the best.
    assert len({record.validation_negative_elbo for record in result.history}) == 1
    assert (result.best_epoch, len(result.history), result.stopped_early) == (1, 4, True)


def test_double_precision_is_passed_on(make_vae: MakeVAE, fit: Fit):
    vae = make_vae()
    result = fit(vae, compute=ComputeSettings(accelerator="cpu", precision="64-true"))
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float64}
    single = fit(make_vae())
    assert torch.get_default_dtype() == torch.float32
    assert result.history[0].train_kl != single.history[0].train_kl


def test_bfloat16_is_passed_on(make_vae: MakeVAE, fit: Fit):
    vae = make_vae()
    result = fit(vae, compute=ComputeSettings(accelerator="cpu", precision="bf16-mixed"))
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}
    assert math.isfinite(result.best_validation_negative_elbo)


def test_hardware_that_is_missing_is_named(make_vae: MakeVAE, fit: Fit):
    with pytest.raises(InvalidInputError, match="ComputeSettings: expected what Lightning Fabric finds here"):
        fit(make_vae(), compute=ComputeSettings(accelerator="abacus"))


def test_nothing_is_printed_outside_a_terminal(make_vae: MakeVAE, fit: Fit, capsys: pytest.CaptureFixture[str]):
    fit(make_vae(), progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_more_processes_than_processors_are_refused(make_vae: MakeVAE, fit: Fit, accelerator: str):
    if accelerator == "auto" and torch.cuda.is_available():
        pytest.skip("the processes would be on GPUs")
    with pytest.raises(InvalidInputError, match=r"ComputeSettings devices: expected at most \d+ on this CPU, got 999"):
        fit(make_vae(), compute=ComputeSettings(accelerator, devices=999))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_densities_in_16_bits_are_warned_of(make_vae: MakeVAE, fit: Fit, precision: Precision):
    with pytest.warns(UserWarning, match=f"precision '{precision}' computes log q.*in 16 bits"):
        _launch(ComputeSettings("cpu", precision=precision))


def test_settings_are_no_dictionaries(make_vae: MakeVAE, data: DataSet, cpu: ComputeSettings):
    wrong: Any
    for wrong in ({"max_epochs": 2}, None, TrainingSettings, cpu):
        with pytest.raises(InvalidInputError, match="settings of train: expected TrainingSettings, got"):
            train(make_vae(), data, wrong, compute=cpu)
    for wrong in ({"accelerator": "cpu"}, "cpu", None):
        with pytest.raises(InvalidInputError, match="compute of train: expected ComputeSettings, got"):
            train(make_vae(), data, TrainingSettings(), compute=wrong)
    for wrong in ("", 3, "nul\0"):
        with pytest.raises(InvalidInputError, match="folder of train: expected a path, got"):
            train(make_vae(), data, TrainingSettings(), folder=wrong, compute=cpu)


def test_a_warm_up_longer_than_the_training_is_warned_of(make_vae: MakeVAE, data: DataSet, cpu: ComputeSettings):
    settings = TrainingSettings(max_epochs=1, warmup_epochs=4, objective="beta", objective_options={"beta": 2.0})
    message = r"warm-up of β takes 4 epochs, and training at most 1: it ends at β = 0\.5\."
    with pytest.warns(UserWarning, match=message) as caught:
        train(make_vae(), data, settings, compute=cpu, progress=False)
    assert caught[0].filename == __file__


def test_a_precision_that_the_device_lacks_is_refused(make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch):
    pattern = "ComputeSettings precision: expected one that cpu computes in, got '16-mixed'"
    with pytest.raises(InvalidInputError, match=pattern):
        fit(make_vae(), compute=ComputeSettings("cpu", precision="16-mixed"))

    def lacking(*arguments: Any, dtype: torch.dtype, **options: Any) -> torch.Tensor:
        raise TypeError(f"no {dtype} here")  # as Apple's GPUs say of double precision

    monkeypatch.setattr(torch, "ones", lacking)
    with pytest.raises(InvalidInputError, match="computes in, got '64-true'"):
        fit(make_vae(), compute=ComputeSettings("cpu", precision="64-true"))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "AdamW", "optimizer_options": {"weight_decay": np.float64(0.1)}},
        {"optimizer": "Adam", "optimizer_options": {"betas": (np.float32(0.5), np.float64(0.9))}},
        {"schedule": "step", "schedule_options": {"epochs": np.int64(1), "factor": np.float64(0.5)}},
        {"schedule": "cosine", "schedule_options": {"epochs": np.int64(2), "minimum": np.float64(1e-5)}},
        {"objective": "beta", "objective_options": {"beta": np.float64(4.0)}},
        {"objective": "renyi", "num_particles": 2, "objective_options": {"alpha": np.float64(0.5)}},
    ],
    ids=lambda options: str(next(iter(options.values()))),
)
def test_options_of_numpy_are_those_of_python_when_a_run_goes_on(make_vae: MakeVAE, fit: Fit, tmp_path: Path, options):
    """As sweeps over `np.logspace` give them."""
    fit(make_vae(), folder=tmp_path, max_epochs=2, **options)
    assert len(fit(make_vae(), folder=tmp_path, resume=True, max_epochs=3, **options).history) == 3
