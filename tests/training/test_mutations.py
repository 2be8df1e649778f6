"""A checkpoint with any entry damaged is refused by an error that names the entry, and trains nothing."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_flows.errors import CheckpointError
from vae_flows.training import TrainingResult, load_weights
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]
Fit = Callable[..., TrainingResult]

WEIGHT = ("weights", "posterior.gaussian.weight")
STATE = ("runner", "optimizer", "state")
GROUP = ("runner", "optimizer", "param_groups", 0)
RECORD = ("history", 1)
MISSING = object()

TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "NaN": lambda tensor: torch.full_like(tensor, math.nan),
    "infinite": lambda tensor: torch.full_like(tensor, -math.inf),
    "integer": lambda tensor: tensor.long(),
    "bool": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "of another shape": lambda tensor: torch.zeros(*tensor.shape, 2),
    "huge and expanded": lambda tensor: torch.zeros(1).expand(10**12),
    "sparse": lambda tensor: tensor.reshape(1, -1).to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "a list": lambda tensor: tensor.tolist(),
}
WRONG: tuple[Any, ...] = (MISSING, None, 3, "text", [], {1: 2}, torch.zeros(2))
PLACES: dict[tuple[Any, ...], tuple[Any, ...]] = {
    ("run",): WRONG,
    ("run", "seed"): (MISSING, None, "x", [0], torch.zeros(2)),
    ("run", "model"): (None, 3, {}, "text"),
    ("run", "model", "posterior", "num_layers"): (MISSING, 5, "4", None),
    ("history",): (*WRONG, {"epoch": 1}, [None], [3]),
    RECORD: (MISSING, None, [1], "text", {}),
    (*RECORD, "epoch"): (MISSING, None, 1, 3, 2.0, "2", True, -1),
    (*RECORD, "validation_negative_elbo"): (MISSING, None, "1", math.nan, math.inf, [1.0], 1j, torch.zeros(1)),
    (*RECORD, "forward_evaluations"): (MISSING, 0.5, "1", True),
    (*RECORD, "evaluations_per_solve"): (MISSING, "1", math.nan, [1]),
    (*RECORD, "seconds"): (MISSING, None, "fast", math.nan),
    (*RECORD, "another"): (1,),
    ("weights",): WRONG,
    WEIGHT: (MISSING, None, 3, "text", {}),
    ("weights", "another"): (torch.zeros(1), 3),
    ("weights", 3): (torch.zeros(1),),
    ("runner",): WRONG,
    ("runner", "optimizer"): WRONG,
    STATE: WRONG,
    (*STATE, 0): (MISSING, None, 3, [], {"step": torch.tensor(6.0)}),
    (*STATE, 99): ({},),
    (*STATE, 0, "step"): (
        MISSING,
        None,
        6,
        torch.tensor(-1.0),
        torch.tensor(0.5),
        torch.tensor(math.nan),
        torch.ones(2),
    ),
    (*STATE, 0, "exp_avg"): (MISSING, None, 0.5),
    (*STATE, 0, "exp_inf"): (MISSING, None, 0.5),
    ("runner", "optimizer", "param_groups"): WRONG,
    GROUP: (MISSING, None, 3, {}, []),
    (*GROUP, "lr"): (MISSING, None, 0.5, "fast", math.nan, torch.tensor(0.005), True),
    (*GROUP, "betas"): (MISSING, None, (0.9,), 3, (0.1, 0.2)),
    (*GROUP, "params"): (MISSING, None, [0], [0, 0], "all"),
    ("runner", "precision"): (MISSING, None, 3, {"scale": 1.0}, {"scale": None}, []),
    ("format",): (MISSING, None, 1, "vae-flows checkpoint 99", torch.zeros(2)),
}


def mutations() -> Iterator[Any]:
    for place, values in PLACES.items():
        for value in values:
            told = "missing" if value is MISSING else repr(value)
            yield pytest.param(place, lambda _, value=value: value, id=f"{'.'.join(map(str, place))} {told}")
    for place in (WEIGHT, (*STATE, 0, "exp_avg"), (*STATE, 0, "exp_inf")):
        for told, change in TENSORS.items():
            yield pytest.param(place, change, id=f"{'.'.join(map(str, place))} {told}")


def mutate(content: Any, place: tuple[Any, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    known = isinstance(inner, list) or place[-1] in inner
    value = change(inner[place[-1]] if known else None)
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {}


@pytest.fixture
def content(make_vae: MakeVAE, fit: Fit, tmp_path: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """The last checkpoint of a run of three epochs, made once."""
    if not kept:
        fit(make_vae(), max_epochs=3, folder=tmp_path / "run")
        kept.update(load_checkpoint(tmp_path / "run" / "last.ckpt"))
    return kept


@pytest.mark.parametrize(("place", "change"), list(mutations()))
def test_a_mutation_is_refused_and_named(
    make_vae: MakeVAE,
    fit: Fit,
    content: dict[str, Any],
    tmp_path: Path,
    place: tuple[Any, ...],
    change: Callable[[Any], Any],
):
    path, vae = tmp_path / "last.ckpt", make_vae()
    path.parent.mkdir(exist_ok=True)
    save_checkpoint(path, content)
    # Written by torch itself, so that the format can be mutated as well.
    torch.save(mutate(load_checkpoint(path), place, change), path)
    before = copy.deepcopy(vae.state_dict())
    with pytest.raises(CheckpointError) as caught:
        fit(vae, max_epochs=4, folder=tmp_path, resume=True)
    message = str(caught.value)
    assert "expected" in message
    assert "got" in message
    assert str(path.parent) in message
    named = [name for name in place if isinstance(name, str) and name != "another"]
    unreadable = "expected a readable file" in message  # such as sparse tensors
    assert unreadable or not named or any(name in message for name in named[-2:])
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    if place[0] == "weights":
        with pytest.raises(CheckpointError):
            load_weights(vae, path)


@pytest.mark.parametrize("epoch", [MISSING, None, 99, 3.0, True, "3"])
def test_the_epoch_of_the_best_weights_is_checked(make_vae: MakeVAE, fit: Fit, tmp_path: Path, epoch: Any):
    fit(make_vae(), max_epochs=3, folder=tmp_path)
    last = load_checkpoint(tmp_path / "last.ckpt")
    last["history"][0]["validation_negative_elbo"] = -1e6  # so that another epoch than the last is the best
    save_checkpoint(tmp_path / "last.ckpt", last)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"epoch": 1}))
    assert fit(make_vae(), max_epochs=3, folder=tmp_path, resume=True).best_epoch == 1
    (tmp_path / "config.json").write_text(json.dumps(mutate(config, ("epoch",), lambda _: epoch)))
    with pytest.raises(CheckpointError, match="epoch"):
        fit(make_vae(), max_epochs=3, folder=tmp_path, resume=True)
