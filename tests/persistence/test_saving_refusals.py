"""Folders that are no saved model, or a damaged one, are refused, and the message says why."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import vae_flows as vf
from vae_flows.errors import CheckpointError
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.persistence.saved_models import CONFIG_FILE, WEIGHTS_FILE


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
            {"class": "MLPEncoder", "event_shape": [1, 2, 2], "depth": 3},
            "unexpected keyword argument 'depth'",
        ),
        ("encoder", {"class": "MLPEncoder", "event_shape": [1, 0]}, "event_shape: expected positive sizes"),
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


FLOW = {"class": "AmortizedPosterior", "latent_dim": 2, "context_dim": 3}
SIZES: dict[str, dict[str, Any]] = {
    "blocks": {"posterior": {**FLOW, "flow": "ffjord", "hidden_dims": [4], "num_blocks": 10**6}},
    "layers": {"posterior": {**FLOW, "flow": "planar", "num_layers": 10**6}},
    "many layers": {"posterior": {**FLOW, "flow": "planar", "num_layers": 10**12}},
    "iaf": {"posterior": {**FLOW, "flow": "iaf", "num_layers": 10**6}},
    "sylvester": {
        "posterior": {**FLOW, "flow": "sylvester-householder", "num_layers": 10**5, "num_reflections": 10**5}
    },
    "latents": {"posterior": {**FLOW, "latent_dim": 10**12}},
    "huge latents": {"posterior": {**FLOW, "latent_dim": 10**30}},
    "negative": {"posterior": {**FLOW, "latent_dim": -(10**12)}},
    "contexts": {"posterior": {**FLOW, "context_dim": 10**6}},
    "width": {"encoder": {"class": "MLPEncoder", "event_shape": [1, 2, 2], "hidden_dims": [10**6, 10**6]}},
    "depth": {"encoder": {"class": "MLPEncoder", "event_shape": [1, 2, 2], "hidden_dims": [1] * 10**5}},
    "pixels": {"encoder": {"class": "MLPEncoder", "event_shape": [10**6, 10**6, 10**6], "hidden_dims": [1]}},
    "foreign width": {"posterior": {**FLOW, "flow": "pyro:neural_autoregressive", "hidden_dims": [10**6, 10**6]}},
    "foreign layers": {"posterior": {**FLOW, "flow": "pyro:planar", "num_layers": 10**6}},
    "text": {"posterior": {**FLOW, "flow": "f" * 2**20}},
    "infinite": {"posterior": {**FLOW, "flow": "ffjord", "hidden_dims": [1e308]}},
}


@pytest.mark.parametrize("sizes", SIZES)
def test_absurd_sizes_take_neither_memory_nor_time(folder: Path, sizes: str) -> None:
    rewrite(folder, lambda config: config["model"].update(SIZES[sizes]))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CheckpointError) as caught:
        vf.VAE.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - start < 20  # seconds: the limits let a second or two pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


@pytest.mark.parametrize("depth", [10, 200, 400, 10_000])
def test_deep_descriptions_are_refused(folder: Path, depth: int) -> None:
    text = (folder / CONFIG_FILE).read_text()
    flow = '{"class": "AmortizedPosterior", "flow": [' * depth + "1" + "]}" * depth
    (folder / CONFIG_FILE).write_text(text.replace('"flow": "planar"', f'"flow": {flow}'))
    with pytest.raises(CheckpointError):
        vf.VAE.from_pretrained(folder)


def test_a_description_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / CONFIG_FILE).unlink()
    os.mkfifo(folder / CONFIG_FILE)
    with pytest.raises(CheckpointError, match=r"config\.json: expected a regular file"):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    weights["posterior.gaussian.bias"][0] = value
    write_weights(folder, safetensors.torch.save(weights))
    with pytest.raises(CheckpointError, match=r"got NaN or infinite: posterior\.gaussian\.bias"):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_are_refused(folder: Path, dtype: torch.dtype) -> None:
    if dtype not in safetensors.torch._SIZE:
        pytest.skip("this release of safetensors cannot write them")
    weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    weights["posterior.gaussian.bias"] = weights["posterior.gaussian.bias"].to(dtype)
    write_weights(folder, safetensors.torch.save(weights))
    with pytest.raises(CheckpointError, match=r"got of another kind: posterior\.gaussian\.bias"):
        vf.VAE.from_pretrained(folder)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    write_weights(folder, (folder / WEIGHTS_FILE).read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        vf.VAE.from_pretrained(folder)


def write_weights(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(content)
    rewrite(folder, lambda config: config.update(weights={"sha256": hashlib.sha256(content).hexdigest()}))
