from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.training import TrainingResult, TrainingState, load_weights
from vae_flows.training.checkpoint import load_checkpoint
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]
SameWeights = Callable[[VAE, VAE], bool]


class Recorder:
    """Keeps the states, draws random numbers, and stops after an epoch."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.states: list[TrainingState] = []
        self.draws: list[float] = []

    def on_epoch_end(self, state: TrainingState) -> bool | None:
        assert not state.model.training
        self.states.append(state)
        self.draws.append(float(torch.rand(())))
        return state.epoch == self.last or None


def test_callbacks_see_each_epoch_and_change_nothing(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, tmp_path: Path
):
    plain, called, recorder = make_vae(), make_vae(), Recorder()
    expected = fit(plain)
    before = torch.random.get_rng_state()
    assert fit(called, folder=tmp_path, callbacks=[recorder]) == expected
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same_weights(plain, called)
    assert [state.epoch for state in recorder.states] == [1, 2, 3, 4, 5]
    assert tuple(state.record for state in recorder.states) == expected.history
    last = recorder.states[-1]
    assert last.history == expected.history
    assert last.best.epoch == expected.best_epoch
    assert (last.folder, last.settings.max_epochs) == (tmp_path, 5)
    assert len(set(recorder.draws)) == 5
    with pytest.raises(FrozenInstanceError):
        last.epoch = 7  # pyright: ignore[reportAttributeAccessIssue]


def test_a_callback_may_stop_and_the_run_goes_on_exactly(
    make_vae: MakeVAE, fit: Fit, same_weights: SameWeights, tmp_path: Path
):
    whole, stopped, resumed, all_epochs = make_vae(), make_vae(), make_vae(), Recorder()
    expected = fit(whole, callbacks=[all_epochs])
    first, second = Recorder(last=2), Recorder()
    part = fit(stopped, folder=tmp_path, callbacks=[first, Recorder()])
    assert len(part.history) == 2
    assert not part.stopped_early
    assert fit(resumed, folder=tmp_path, resume=True, callbacks=[second]) == expected
    assert same_weights(resumed, whole)
    assert first.draws[:1] + second.draws[:0] == all_epochs.draws[:1]
    assert [state.epoch for state in second.states] == [3, 4, 5]


def test_the_model_of_a_callback_is_the_one_that_was_validated(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    class Compared:
        def on_epoch_end(self, state: TrainingState) -> None:
            saved = make_vae()
            assert state.folder is not None
            load_weights(saved, state.folder / "last.ckpt")
            for name, tensor in saved.state_dict().items():
                assert torch.equal(tensor, state.model.state_dict()[name])

    fit(make_vae(), folder=tmp_path, callbacks=[Compared()], ema_decay=0.9, max_epochs=2)


def test_what_a_callback_raises_comes_out_after_the_epoch_was_saved(make_vae: MakeVAE, fit: Fit, tmp_path: Path):
    class Failing:
        def on_epoch_end(self, state: TrainingState) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(make_vae(), folder=tmp_path, callbacks=[Failing()])
    assert caught.value.__notes__ == ["In Failing.on_epoch_end, after epoch 1, which is saved."]
    assert len(load_checkpoint(tmp_path / "last.ckpt")["history"]) == 1


@pytest.mark.parametrize("wrong", [3, None, "callback", [3], [Recorder], [print], [lambda state: None]])
def test_what_is_no_callback_is_refused(make_vae: MakeVAE, fit: Fit, wrong: Any):
    with pytest.raises(
        InvalidInputError, match=r"callback.* of train: expected (an object with a method on|a sequence)"
    ):
        fit(make_vae(), callbacks=wrong)


@pytest.mark.parametrize("answer", [3, "stop", [], torch.ones(2)])
def test_an_answer_is_yes_or_no(make_vae: MakeVAE, fit: Fit, answer: Any):
    class Odd:
        def on_epoch_end(self, state: TrainingState) -> Any:
            return answer

    with pytest.raises(
        InvalidInputError, match=r"what Odd\.on_epoch_end returns: expected True to stop, False or None"
    ):
        fit(make_vae(), callbacks=[Odd()])
