from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vae_flows.errors import CheckpointError, InvalidInputError
from vae_flows.training import TrainingResult, TrainingSettings, load_weights
from vae_flows.training.averaging import WeightAverage
from vae_flows.training.checkpoint import load_checkpoint
from vae_flows.vae import ELBO, VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SameWeights = Callable[[VAE, VAE], bool]


def test_the_average_is_that_of_its_definition():
    module = nn.Linear(2, 1, bias=False).double()
    average = WeightAverage(module, 0.5)
    expected = module.weight.detach().clone()
    for step in range(1, 23):
        with torch.no_grad():
            module.weight += 1.0
        average.update()
        if step > 8 and step % 4:
            continue
        decay = min(0.5, (1 + step) / (10 + step)) ** (1 if step <= 8 else 4)
        expected = decay * expected + (1 - decay) * module.weight.detach()
    trained = module.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(average.state_dict()["weights"]["weight"], module.weight)
    assert torch.equal(module.weight, trained)


def test_validation_best_weights_and_the_model_are_averaged(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, tmp_path: Path
):
    trained, averaged, best, last = make_vae(), make_vae(), make_vae(), make_vae()
    plain = fit(trained, folder=tmp_path / "plain")
    result = fit(averaged, folder=tmp_path / "averaged", ema_decay=0.95)
    # The weights that are trained are the same; what is validated and kept is not.
    assert [r.train_negative_elbo for r in result.history] == [r.train_negative_elbo for r in plain.history]
    assert all(
        one.validation_negative_elbo != other.validation_negative_elbo
        for one, other in zip(result.history, plain.history, strict=True)
    )
    load_weights(best, tmp_path / "averaged")
    assert same_weights(averaged, best)
    content = load_checkpoint(tmp_path / "averaged" / "last.ckpt")
    load_weights(last, tmp_path / "plain" / "last.ckpt")
    for name, tensor in content["runner"]["average"]["weights"].items():
        assert torch.equal(tensor, last.state_dict()[name])
        assert not torch.equal(tensor, content["weights"][name])
    assert content["runner"]["average"]["steps"] == 15


def test_an_average_is_not_begun_or_left_in_the_middle(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    fit(make_vae(), max_epochs=1, folder=tmp_path / "plain")
    with pytest.raises(CheckpointError, match=r"expected ema_decay = None, got ema_decay = 0\.9\. Continue with what"):
        fit(make_vae(), folder=tmp_path / "plain", resume=True, ema_decay=0.9)
    fit(make_vae(), max_epochs=1, folder=tmp_path / "averaged", ema_decay=0.9)
    with pytest.raises(CheckpointError, match=r"expected ema_decay = 0\.9, got ema_decay = None"):
        fit(make_vae(), folder=tmp_path / "averaged", resume=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), None),
        (("steps",), -1),
        (("steps",), True),
        (("steps",), None),
        (("weights",), {}),
        (("weights", "another"), torch.zeros(2)),
        (("weights", "posterior.gaussian.weight"), torch.zeros(2)),
        (("weights", "posterior.gaussian.bias"), torch.full((4,), math.nan)),
    ],
)
def test_a_damaged_average_is_refused(make_vae: MakeVAE, fit: Fit, tmp_path: Path, place: tuple[str, ...], value: Any):
    fit(make_vae(flow="none"), max_epochs=1, folder=tmp_path, ema_decay=0.9)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    inner = content["runner"]
    for name in ("average", *place)[:-1]:
        inner = inner[name]
    inner[("average", *place)[-1]] = value
    torch.save(content, tmp_path / "last.ckpt")
    vae = make_vae(flow="none")
    before = copy.deepcopy(vae.state_dict())
    with pytest.raises(CheckpointError, match="average of checkpoint"):
        fit(vae, folder=tmp_path, resume=True, ema_decay=0.9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, math.nan, "0.9", True])
def test_a_decay_is_a_share(decay: Any):
    with pytest.raises(InvalidInputError, match="TrainingSettings ema_decay: expected a"):
        TrainingSettings(ema_decay=decay)


@pytest.mark.parametrize(("batch_size", "size", "steps"), [(20, 2, 2), (10, 4, 2), (20, 5, 1)])
def test_accumulated_batches_make_the_step_of_their_examples(
    make_vae: MakeVAE, fit: Fit, monkeypatch: pytest.MonkeyPatch, batch_size: int, size: int, steps: int
):
    vae, gradients, pixels = make_vae(), [], []
    parameter = vae.posterior.gaussian.bias

    def elbo(x: Tensor, *arguments: Any) -> ELBO:
        pixels.append(x.flatten(1)[:, 0])
        values = parameter.sum() * pixels[-1]
        return ELBO(values, values, torch.zeros_like(values))

    def record(*_: Any) -> None:
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())

    monkeypatch.setattr(vae, "elbo", elbo)
    hook = register_optimizer_step_pre_hook(record)
    try:
        fit(vae, max_epochs=1, batch_size=batch_size, accumulate_batches=size)
    finally:
        hook.remove()
    training = torch.cat(pixels)[:50]
    means = [part.mean() for part in training.split(batch_size * size)]
    assert len(gradients) == steps == len(means)
    for gradient, mean in zip(gradients, means, strict=True):
        torch.testing.assert_close(gradient, -mean.expand_as(gradient))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_batches_are_counted(size: Any):
    with pytest.raises(InvalidInputError, match="accumulate_batches: expected an integer of at least 1"):
        TrainingSettings(accumulate_batches=size)
