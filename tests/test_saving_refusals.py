"""Folders that are no saved model, or a damaged one, are refused, and the message says why."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vae_flows as vf
from vae_flows.errors import CheckpointError
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.saving import CONFIG_FILE, WEIGHTS_FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vae = vf.VAE(
        MLPEncoder((1, 2, 2), (4,), 3),
        MLPDecoder(2, (1, 2, 2), (4,)),
        vf.AmortizedPosterior(2, 3, "planar"),
        BernoulliLikelihood(),
    )
    vae.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    change(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"elsewhere: expected a folder with config\.json, got none"):
        vf.VAE.from_pretrained(folder / "elsewhere")
    with pytest.raises(CheckpointError, match=r"expected a folder with config\.json, got none"):
        vf.VAE.from_pretrained(folder / CONFIG_FILE)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"expected a file model\.safetensors, got none"):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000, b"\xff"])
def test_a_damaged_description_is_refused(folder: Path, text: str | bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"expected JSON in config\.json, got something else"):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"library": "other"}, r"expected a config\.json of vae-flows, got that of something else"),
        (
            {"format": 2, "version": "9.9"},
            r"expected format 1 or earlier, got 2, written by version 9\.9\. Install that",
        ),
        ({"format": None}, "expected format 1 or earlier, got None"),
        ({"model": 3}, "expected entries model and weights"),
        ({"weights": {}}, r"expected the weights that config\.json belongs to"),
    ],
)
def test_descriptions_of_others_are_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    rewrite(folder, lambda config: config.update(change))
    with pytest.raises(CheckpointError, match=message):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize(
    ("part", "description", "message"),
    [
        (
            "encoder",
            {"class": "os.system", "command": "true"},
            r"encoder of .* \(registered class: .*'os.sys",
        ),
        (
            "encoder",
            {"class": "MLPEncoder", "image_shape": [1, 2, 2], "depth": 3},
            "unexpected keyword argument 'depth'",
        ),
        ("encoder", {"class": "MLPEncoder", "image_shape": [1, 2]}, "image_shape"),
        ("posterior", {"class": "AmortizedPosterior", "latent_dim": 2, "context_dim": 6, "flow": "absent"}, "'absent'"),
        ("likelihood", {"unregistered": "Other"}, "expected likelihood=…"),
        ("depth", 3, r"got an error \(.*'depth'"),
    ],
)
def test_descriptions_that_cannot_be_built_are_refused(
    folder: Path, part: str, description: dict[str, Any], message: str
) -> None:
    rewrite(folder, lambda config: config["model"].update({part: description}))
    with pytest.raises(CheckpointError, match=message):
        vf.VAE.from_pretrained(folder)


def test_another_class_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="expected class AmortizedPosterior, got class VAE"):
        vf.AmortizedPosterior.from_pretrained(folder)


def test_weights_of_another_model_are_named_and_the_parts_stay_as_they_were(folder: Path) -> None:
    encoder = nn.Linear(4, 3).double()
    before = encoder.weight.clone()
    with pytest.raises(CheckpointError, match=r"weights of this VAE, got missing: encoder\.weight, .*unexpected"):
        vf.VAE.from_pretrained(folder, encoder=encoder)
    assert torch.equal(encoder.weight, before)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="got damaged ones or those of another save"):
        vf.VAE.from_pretrained(folder)
    path.write_bytes(b"no tensors")
    rewrite(folder, lambda config: config.update(weights={"sha256": hashlib.sha256(b"no tensors").hexdigest()}))
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        vf.VAE.from_pretrained(folder)
