"""Saved models come back as they were, and what cannot be saved is told."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import vae_flows as vf
from tests.persistence.small_models import SHAPE, SOLVER, C, D, assert_same, flow_prior, make_vae
from tests.small_flows import NAMES
from vae_flows.cnf import ContinuousNormalizingFlow, MLPDynamics
from vae_flows.errors import CheckpointError, FileError, InvalidInputError
from vae_flows.flows import PlanarFlow
from vae_flows.likelihoods import CategoricalLikelihood
from vae_flows.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from vae_flows.persistence.configuration import register_class
from vae_flows.persistence.descriptions import describe_model
from vae_flows.persistence.saved_models import CONFIG_FILE, WEIGHTS_FILE


class OwnEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(-3))


class OwnFlow(PlanarFlow):
    """Derived from a registered flow, and not registered itself."""


@register_class("tests.OwnDecoder")
class OwnDecoder(nn.Module):
    def __init__(self, channels: Sequence[int], gain: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        self.gain = gain
        self.linear = nn.Linear(D, 4 * sum(channels))

    def forward(self, z: Tensor) -> Tensor:
        return self.gain * self.linear(z).unflatten(-1, (sum(self.channels), 2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flow", NAMES)
def test_every_flow_gives_the_same_bound_after_loading(flow: str, dtype: torch.dtype, tmp_path: Path) -> None:
    vae = make_vae(flow).to(dtype)
    vae.save_pretrained(tmp_path / "model")
    loaded = vf.VAE.from_pretrained(tmp_path / "model")
    assert not loaded.training
    assert_same(vae, loaded, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_learned_prior_comes_back(dtype: torch.dtype, tmp_path: Path) -> None:
    vae = make_vae(prior=flow_prior()).to(dtype)
    vae.save_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path), dtype)


def test_grey_levels_come_back(tmp_path: Path) -> None:
    likelihood = CategoricalLikelihood(levels=4)
    vae = make_vae(likelihood=likelihood, decoder=MLPDecoder(D, SHAPE, (4,), parameters_per_pixel=4))
    vae.save_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path))


@pytest.mark.parametrize("flow", NAMES)
def test_state_dicts_round_trip(flow: str, tmp_path: Path) -> None:
    vae, other = make_vae(flow), make_vae(flow)
    torch.save(vae.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert_same(vae, other)


@pytest.mark.parametrize("flow", NAMES)
def test_a_posterior_is_saved_by_itself(flow: str, tmp_path: Path) -> None:
    posterior = make_vae(flow).posterior.double().eval()
    posterior.save_pretrained(tmp_path)
    loaded = vf.AmortizedPosterior.from_pretrained(str(tmp_path))
    context = torch.randn(3, C, dtype=torch.float64)
    z = torch.randn(3, D, dtype=torch.float64)
    assert torch.equal(loaded(context).log_prob(z), posterior(context).log_prob(z))


def test_the_description_is_readable(tmp_path: Path) -> None:
    make_vae("ffjord").save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    assert (config["library"], config["version"], config["format"]) == ("vae-flows", vf.__version__, 1)
    model = config["model"]
    assert model["encoder"] == {"class": "MLPEncoder", "event_shape": [1, 2, 2], "hidden_dims": [4], "context_dim": 6}
    assert model["posterior"]["flow"] == "ffjord"
    assert model["posterior"]["integration_time"] == 0.75
    assert model["posterior"]["solver"]["options"] == {"step_size": 0.25}
    assert model["posterior"]["regularizers"] == [{"class": "KineticEnergy", "weight": 0.1}]
    assert (model["likelihood"], model["prior"]) == ({"class": "BernoulliLikelihood", "event_dim": 3}, None)


def test_settings_changed_after_construction_are_the_ones_saved(tmp_path: Path) -> None:
    vae = make_vae("ffjord")
    assert isinstance(vae.posterior.flow, vf.FFJORD)
    vae.posterior.flow.cnf.eval_solver = vf.ODESolver(rtol=1e-7)
    vae.save_pretrained(tmp_path)
    flow = vf.VAE.from_pretrained(tmp_path).posterior.flow
    assert isinstance(flow, vf.FFJORD)
    assert flow.cnf.eval_solver == vf.ODESolver(rtol=1e-7)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (MLPEncoder((1, 2, 2), (4,), C), MLPDecoder(D, (1, 2, 2), (4,))),
        # More than 32 pixels a side: by their size they would be halved three times, and twice they were.
        (ConvEncoder((1, 4, 36), C, num_halvings=2), ConvDecoder(D, (1, 4, 36), num_halvings=2)),
    ],
)
def test_networks_that_were_described_by_the_shape_of_an_image_are_read(
    encoder: nn.Module, decoder: nn.Module, tmp_path: Path
) -> None:
    vae = make_vae("planar", encoder=encoder, decoder=decoder)
    vae.save_pretrained(tmp_path)
    path = tmp_path / CONFIG_FILE
    config = json.loads(path.read_text())
    for name in ("encoder", "decoder"):
        network = config["model"][name]
        network["image_shape"] = network.pop("event_shape")
        network.pop("num_halvings", None)
    path.write_text(json.dumps(config))
    loaded = vf.VAE.from_pretrained(tmp_path)
    assert describe_model(loaded) == describe_model(vae)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in vae.state_dict().items())


def earlier(description: Any) -> Any:
    """Return a description as releases wrote it when every setting had a value, also those without effect."""
    if isinstance(description, list):
        return [earlier(item) for item in description]
    if not isinstance(description, dict):
        return description
    values = {"rank": 20, "rtol": 1e-5, "atol": 1e-5, "amortization": "bias"}
    written = {name: earlier(value) for name, value in description.items()}
    return {name: values.get(name) if value is None else value for name, value in written.items()}


@pytest.mark.parametrize("amortization", ["concat", "bias", "low_rank"])
@pytest.mark.parametrize("alone", [False, True])
def test_settings_without_effect_of_earlier_files_are_passed_over(
    amortization: str, alone: bool, tmp_path: Path
) -> None:
    posterior = vf.AmortizedPosterior(D, C, "ffjord", hidden_dims=(4,), amortization=amortization, solver=SOLVER)
    prior = ContinuousNormalizingFlow(MLPDynamics(D, (4,)), solver=SOLVER)
    model = posterior if alone else make_vae(posterior=posterior, prior=prior)
    model.save_pretrained(tmp_path)
    path = tmp_path / CONFIG_FILE
    config = json.loads(path.read_text())
    config["model"] = earlier(config["model"])
    assert (config["model"] if alone else config["model"]["posterior"])["rank"] == 20
    path.write_text(json.dumps(config))
    loaded = type(model).from_pretrained(tmp_path)
    assert describe_model(loaded) == describe_model(model)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    make_vae("ffjord").save_pretrained(tmp_path)
    before = torch.get_rng_state()
    vf.VAE.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_parts_that_cannot_be_described_are_passed(tmp_path: Path) -> None:
    vae = make_vae(OwnFlow(D, C), encoder=OwnEncoder())
    vae.save_pretrained(tmp_path)
    message = r"encoder of the saved model .*: expected encoder=…, .* got none of class OwnEncoder\. Pass an object"
    with pytest.raises(CheckpointError, match=message):
        vf.VAE.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"posterior of the saved model .*: expected posterior=…"):
        vf.VAE.from_pretrained(tmp_path, encoder=OwnEncoder())
    posterior = vf.AmortizedPosterior(D, C, OwnFlow(D, C), variance_bounds=(0.01, 7.0))
    assert_same(vae, vf.VAE.from_pretrained(tmp_path, encoder=OwnEncoder(), posterior=posterior))
    vae.posterior.save_pretrained(tmp_path / "posterior")
    with pytest.raises(CheckpointError, match=r"flow of the saved model .*: expected flow=…"):
        vf.AmortizedPosterior.from_pretrained(tmp_path / "posterior")
    loaded = vf.AmortizedPosterior.from_pretrained(tmp_path / "posterior", flow=OwnFlow(D, C))
    assert torch.equal(loaded.gaussian.weight, vae.posterior.gaussian.weight)
    with pytest.raises(InvalidInputError, match="some of encoder, decoder, posterior, likelihood, prior, got encodr"):
        vf.VAE.from_pretrained(tmp_path, encodr=OwnEncoder())


def test_a_distribution_as_prior_is_passed(tmp_path: Path) -> None:
    prior = torch.distributions.Independent(torch.distributions.Normal(torch.ones(D), torch.ones(D)), 1)
    vae = make_vae(prior=prior)
    vae.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected prior=….*got none of class Independent"):
        vf.VAE.from_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path, prior=prior))


def test_registered_classes_are_built(tmp_path: Path) -> None:
    vae = make_vae(decoder=OwnDecoder((1,), gain=0.5))
    vae.save_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path))


def test_a_derived_model_is_loaded_by_its_class(tmp_path: Path) -> None:
    class OwnVAE(vf.VAE):
        pass

    vae = make_vae()
    OwnVAE(**vae.get_config()).save_pretrained(tmp_path)
    assert type(OwnVAE.from_pretrained(tmp_path)) is OwnVAE
    with pytest.raises(CheckpointError, match="expected class VAE, got class OwnVAE"):
        vf.VAE.from_pretrained(tmp_path)


def test_tied_buffered_and_uncontiguous_weights_come_back(tmp_path: Path) -> None:
    class Tied(OwnEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.linear
            self.register_buffer("count", torch.tensor(0))
            self.register_buffer("mean", torch.zeros(3, 2, dtype=torch.float64).T)

    vae = make_vae(encoder=Tied())
    encoder = vae.encoder
    encoder.count, encoder.mean = torch.tensor(5), torch.randn(3, 2, dtype=torch.float64).T
    vae.save_pretrained(tmp_path)
    loaded = vf.VAE.from_pretrained(tmp_path, encoder=Tied())
    for name, tensor in vae.state_dict().items():
        other = loaded.state_dict()[name]
        assert other.dtype == tensor.dtype, name
        assert torch.equal(other, tensor), name
    assert loaded.encoder.again is loaded.encoder.linear
    assert_same(vae, loaded)


def test_parts_of_different_precision_keep_theirs(tmp_path: Path) -> None:
    vae = make_vae("iaf")
    vae.posterior.double()
    vae.save_pretrained(tmp_path)
    loaded = vf.VAE.from_pretrained(tmp_path)
    dtypes = {name: tensor.dtype for name, tensor in vae.named_buffers()}
    dtypes |= {name: tensor.dtype for name, tensor in vae.named_parameters()}
    for name, tensor in [*loaded.named_parameters(), *loaded.named_buffers()]:
        assert tensor.dtype == dtypes[name], name


def test_the_device_is_chosen(tmp_path: Path) -> None:
    make_vae().save_pretrained(tmp_path)
    loaded = vf.VAE.from_pretrained(tmp_path, map_location="meta")
    assert {parameter.device.type for parameter in loaded.parameters()} == {"meta"}
    with pytest.raises(InvalidInputError, match="nowhere"):
        vf.VAE.from_pretrained(tmp_path, map_location="nowhere")


def test_saving_again_replaces(tmp_path: Path) -> None:
    make_vae("iaf").save_pretrained(tmp_path)
    vae = make_vae("planar")
    vae.save_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [CONFIG_FILE, WEIGHTS_FILE]


@pytest.mark.parametrize("value", ["", None, 3, "nul\0"])
def test_a_folder_is_a_path(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="folder of a saved model: expected a path, got"):
        make_vae().save_pretrained(value)


@pytest.mark.parametrize("kind", ["dangling link", "below a file", "long name", "no permission", "folder in the way"])
def test_places_that_cannot_be_written_to_are_told_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "full" / WEIGHTS_FILE / "folder").mkdir(parents=True)
    names = {"dangling link": "link", "below a file": "file/model", "long name": "n" * 300, "folder in the way": "full"}
    folder = Path("/proc/model") if kind == "no permission" else tmp_path / names[kind]
    with pytest.raises(FileError, match=r"expected a .* that can be written.*, got an error \(") as caught:
        make_vae().save_pretrained(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    vae = make_vae()
    with torch.no_grad():
        vae.posterior.gaussian.bias[0] = float("nan")
    with pytest.raises(InvalidInputError, match=r"finite numbers, got NaN or infinity in posterior\.gaussian\.bias"):
        vae.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_parts_within_parts_of_foreign_classes_are_told_apart(tmp_path: Path) -> None:
    make_vae(OwnFlow(D, C)).save_pretrained(tmp_path)
    message = "as the class OwnFlow of a part of it is not registered, got none of class AmortizedPosterior"
    with pytest.raises(CheckpointError, match=message):
        vf.VAE.from_pretrained(tmp_path)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    vae = make_vae(decoder=OwnDecoder((np.int64(1),), gain=np.float32(0.5)))  # pyright: ignore[reportArgumentType]
    vae.save_pretrained(tmp_path)
    assert_same(vae, vf.VAE.from_pretrained(tmp_path))


def test_what_cannot_be_saved_leaves_no_files(tmp_path: Path) -> None:
    class Stateful(OwnEncoder):
        def get_extra_state(self) -> str:
            return "state"

    @register_class("tests.Forgetful")
    class Forgetful(OwnEncoder):
        def __init__(self, width: int) -> None:
            super().__init__()

    @register_class("tests.Scaled")
    class Scaled(OwnEncoder):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

    folder = tmp_path / "model"
    with pytest.raises(InvalidInputError, match=r"expected tensors alone, got encoder\._extra_state"):
        make_vae(encoder=Stateful()).save_pretrained(folder)
    with pytest.raises(InvalidInputError, match=r"configuration of .*Forgetful: .*got none for width"):
        make_vae(encoder=Forgetful(3)).save_pretrained(folder)
    with pytest.raises(InvalidInputError, match="expected finite numbers"):
        make_vae(encoder=Scaled(float("inf"))).save_pretrained(folder)
    assert not folder.exists()
    folder.write_text("a file")
    with pytest.raises(InvalidInputError, match="expected a folder, got a file"):
        make_vae().save_pretrained(folder)


def test_other_programs_read_the_weights(tmp_path: Path) -> None:
    make_vae().save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    assert weights.keys() == make_vae().state_dict().keys()


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_is_read_without_a_network_and_its_client(
    as_text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_vae().save_pretrained(tmp_path)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # whose import then fails
    monkeypatch.setitem(sys.modules, "vae_flows.persistence.hub", None)
    vf.VAE.from_pretrained(str(tmp_path) if as_text else tmp_path).save_pretrained(tmp_path)
