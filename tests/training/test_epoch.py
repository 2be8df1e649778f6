from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.small_flows import FLOWS, NAMES
from vae_flows.cnf import ODESolver
from vae_flows.data import DataSet
from vae_flows.errors import DataError, IntegrationError, InvalidInputError, NonFiniteLossError, VAEFlowsError
from vae_flows.training import TrainingResult
from vae_flows.training.checkpoint import load_checkpoint
from vae_flows.vae import ELBO, VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SpoilStep = Callable[[VAE, int, Callable[[ELBO], ELBO]], None]

BATCHES = 3  # of 20, 20 and 10 images


def test_the_work_of_continuous_flows_is_counted(make_vae: MakeVAE, fit: Fit):
    solver = ODESolver(method="rk4", options={"step_size": 0.25})  # four evaluations in each of two steps
    vae = make_vae("ffjord", hidden_dims=(8,), amortization="bias", solver=solver)
    result = fit(vae, max_epochs=2)
    assert [record.evaluations_per_solve for record in result.history] == [8, 8]
    assert result.forward_evaluations == 2 * BATCHES * 8


def test_every_image_is_seen_once_an_epoch_in_another_order(
    make_vae: MakeVAE, data: DataSet, fit: Fit, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Tensor] = []
    batch = type(data.train).batch

    def recorded(images: Any, indices: Tensor, **options: Any) -> Tensor:
        if len(images) == len(data.train):
            seen.append(indices)
        return batch(images, indices, **options)

    monkeypatch.setattr(type(data.train), "batch", recorded)
    fit(make_vae(), max_epochs=2)
    assert [len(indices) for indices in seen] == [20, 20, 10] * 2
    epochs = torch.cat(seen).reshape(2, 50)
    assert torch.equal(epochs.sort().values, torch.arange(50).expand(2, 50))
    assert not torch.equal(epochs[0], epochs[1])


def test_the_loss_is_the_elbo_that_the_settings_ask_for(make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch):
    vae, calls = make_vae(), []
    original = vae.elbo

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        calls.append((vae.training, *arguments))
        return original(x, *arguments)

    monkeypatch.setattr(vae, "elbo", elbo)
    fit(vae, max_epochs=2, warmup_epochs=4, num_particles=3, gradient="path")
    expected = [(3, 0.25, "path")] * BATCHES + [(3, 0.5, "path")] * BATCHES
    assert [tuple(arguments) for training, *arguments in calls if training] == expected
    assert [tuple(arguments) for training, *arguments in calls if not training] == [()] * 4


def test_a_loss_that_is_not_finite_stops_the_run(make_vae: MakeVAE, fit: Fit, tmp_path: Path, spoil_step: SpoilStep):
    vae = make_vae()
    spoil_step(vae, BATCHES + 2, lambda terms: replace(terms, elbo=terms.elbo * math.nan))
    pattern = "loss in epoch 2, batch 2, posterior 'planar': expected a finite number, got nan"
    with pytest.raises(NonFiniteLossError, match=pattern):
        fit(vae, folder=tmp_path)
    assert all(parameter.isfinite().all() for parameter in vae.parameters())
    assert len(load_checkpoint(tmp_path / "last.ckpt", "history")["history"]) == 1
    result = fit(make_vae(), folder=tmp_path, resume=True)
    assert result == fit(make_vae())


@pytest.mark.parametrize("max_gradient_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_the_run(
    make_vae: MakeVAE, fit: Fit, spoil_step: SpoilStep, max_gradient_norm: float | None
):
    vae = make_vae()
    spoil_step(vae, 2, lambda terms: replace(terms, elbo=terms.elbo + (terms.elbo - terms.elbo.detach()).sqrt()))
    with pytest.raises(NonFiniteLossError, match="gradient norm in epoch 1, batch 2, posterior 'planar'"):
        fit(vae, max_gradient_norm=max_gradient_norm)
    assert all(parameter.isfinite().all() for parameter in vae.parameters())


def test_a_validation_bound_that_is_not_finite_stops_the_run(
    make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch
):
    vae = make_vae()
    original = vae.elbo

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        terms = original(x, *arguments)
        return terms if vae.training else replace(terms, kl=terms.kl * math.inf)

    monkeypatch.setattr(vae, "elbo", elbo)
    with pytest.raises(NonFiniteLossError, match="negative ELBO in epoch 1, validation, posterior 'planar'"):
        fit(vae)


def test_a_failed_solve_is_located(make_vae: MakeVAE, fit: Fit):
    vae = make_vae("ffjord", hidden_dims=(8,), rank=2, solver=ODESolver(max_evaluations=3))
    with pytest.raises(IntegrationError) as caught:
        fit(vae)
    assert caught.value.__notes__ == ["In training, epoch 1, batch 1, posterior 'ffjord', learning rate 0.005."]


@pytest.mark.parametrize("kind", [InvalidInputError, DataError, RuntimeError, ZeroDivisionError])
@pytest.mark.parametrize("training", [True, False])
def test_any_failure_of_an_epoch_is_located(
    make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], training: bool
):
    vae = make_vae()
    original = vae.elbo

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        if vae.training is training:
            raise kind("a failure")
        return original(x, *arguments)

    monkeypatch.setattr(vae, "elbo", elbo)
    with pytest.raises(kind, match="a failure") as caught:
        fit(vae, learning_rate=0.25)
    place = "batch 1" if training else "validation"
    assert caught.value.__notes__ == [f"In training, epoch 1, {place}, posterior 'planar', learning rate 0.25."]


@pytest.mark.parametrize("name", NAMES)
def test_a_context_that_no_posterior_takes_is_located(make_vae: MakeVAE, fit: Fit, name: str):
    small = FLOWS[name]
    vae, contexts = make_vae(small.name, **small.options_for(2)), 0

    def spoil(module: nn.Module, given: object, context: Tensor) -> Tensor:
        nonlocal contexts
        contexts += vae.training
        return context * math.inf if contexts == 2 else context

    vae.encoder.register_forward_hook(spoil)
    with pytest.raises(VAEFlowsError) as caught:
        fit(vae, learning_rate=0.125)
    assert caught.value.__notes__ == [
        f"In training, epoch 1, batch 2, posterior '{vae.posterior.flow_name}', learning rate 0.125."
    ]


def test_each_epoch_has_draws_of_its_own(make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch):
    vae, states, pixels = make_vae(), [], []
    original = vae.elbo

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        if vae.training:
            states.append(torch.get_rng_state())
            pixels.append(x.sum(0))
        return original(x, *arguments)

    monkeypatch.setattr(vae, "elbo", elbo)
    fit(vae, max_epochs=3, batch_size=50)
    for seen in (states, pixels):
        assert len(seen) == 3
        assert not any(torch.equal(seen[one], seen[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("batch_size", [1, 20, 50])
def test_the_loss_is_a_mean_over_images(make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch, batch_size: int):
    vae, gradients = make_vae(), []
    parameter = vae.posterior.gaussian.bias

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        values = parameter.sum().expand(len(x))
        return ELBO(values, values, torch.zeros_like(values))

    def record(optimizer: Optimizer, *_: Any) -> None:
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())

    monkeypatch.setattr(vae, "elbo", elbo)
    hook = register_optimizer_step_pre_hook(record)
    try:
        fit(vae, max_epochs=1, batch_size=batch_size)
    finally:
        hook.remove()
    for gradient in gradients:  # of −(sum of the parameters), whatever the number of images
        torch.testing.assert_close(gradient, -torch.ones_like(gradient))


def test_long_gradients_are_cut(make_vae: MakeVAE, fit: Fit):
    norms: list[float] = []

    def record(optimizer: Optimizer, *_: Any) -> None:
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())

    hook = register_optimizer_step_pre_hook(record)
    try:
        fit(make_vae(), max_epochs=1)
        fit(make_vae(), max_epochs=1, max_gradient_norm=0.01)
    finally:
        hook.remove()
    assert min(norms[:BATCHES]) > 0.1
    assert norms[BATCHES:] == pytest.approx([0.01] * BATCHES, rel=1e-3)  # torch adds 1e-6 to the norm
