"""Models with parts of one's own are saved as they are, or what would be lost is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vae_flows as vf
from tests.persistence.small_models import SHAPE, C, D, make_vae
from vae_flows.errors import InvalidInputError
from vae_flows.networks import MLPDecoder, MLPEncoder


class WarmVAE(vf.VAE):
    def __init__(self, *parts: Any, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.temperature = temperature


class ForgetfulVAE(vf.VAE):
    def __init__(self, *parts: Any, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._kept = temperature


@vf.register_class("ShiftedPosterior")
class ShiftedPosterior(vf.AmortizedPosterior):
    def __init__(self, *sizes: Any, shift: float = 0.0, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.shift = shift


@vf.register_class("TableEncoder")
class TableEncoder(MLPEncoder):
    def __init__(self, table: Mapping[Any, float]) -> None:
        super().__init__(SHAPE, (4,), C)
        self.table = table

    def get_config(self) -> dict[str, Any]:
        return {"table": self.table}


@vf.register_class("TiedEncoder")
class TiedEncoder(MLPEncoder):
    def __init__(self) -> None:
        super().__init__(SHAPE, (4,), C)


def of_parts(kind: type[vf.VAE], vae: vf.VAE, **options: Any) -> vf.VAE:
    return kind(vae.encoder, vae.decoder, vae.posterior, vae.likelihood, **options)


def test_arguments_that_a_subclass_adds_come_back(tmp_path):
    vae = of_parts(WarmVAE, make_vae(posterior=ShiftedPosterior(D, C, flow="planar", shift=3.0)), temperature=4.0)
    vae.save_pretrained(tmp_path)
    loaded = WarmVAE.from_pretrained(tmp_path)
    assert (loaded.temperature, loaded.posterior.shift) == (4.0, 3.0)
    assert type(loaded.posterior) is ShiftedPosterior


def test_arguments_that_a_subclass_does_not_keep_are_told(tmp_path):
    with pytest.raises(InvalidInputError, match=r"none for temperature\. Keep them"):
        of_parts(ForgetfulVAE, make_vae(), temperature=4.0).save_pretrained(tmp_path)


@pytest.mark.parametrize("table", [{1: 5.0}, {"a": {2: 1.0}}, {"a": [{None: 1.0}]}, {"class": "MLPEncoder"}], ids=str)
def test_mappings_whose_keys_would_be_others_are_told(tmp_path, table):
    with pytest.raises(InvalidInputError, match="expected names as keys of mappings"):
        make_vae(encoder=TableEncoder(table)).save_pretrained(tmp_path)
    make_vae(encoder=TableEncoder({"a": {"b": 1.0}})).save_pretrained(tmp_path)


def test_weights_that_parts_share_are_told(tmp_path):
    encoder, decoder = TiedEncoder(), MLPDecoder(D, SHAPE, (4,))
    shared = nn.Linear(3, 3)
    encoder.core = decoder.core = shared
    with pytest.warns(UserWarning, match=r"shared by decoder and encoder\. A loaded model has them apart"):
        vf.VAE(encoder, decoder, make_vae().posterior, make_vae().likelihood).save_pretrained(tmp_path)


def test_the_jacobian_of_half_precision_is_added_up_in_single():
    batches: list[Tensor] = [torch.rand(100, 3, 32, 32) * torch.tensor([0.01, 0.02, 5.0]).reshape(3, 1, 1)]
    standardization = vf.Standardization.of(batches).to(torch.bfloat16)
    expected = -(1024 * standardization.scale.double().log()).sum()
    torch.testing.assert_close(standardization.log_abs_det_jacobian().double(), expected, rtol=1e-6, atol=0)
