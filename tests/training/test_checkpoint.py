from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_flows.errors import CheckpointError
from vae_flows.training import load_weights
from vae_flows.training.checkpoint import load_checkpoint, save_checkpoint
from vae_flows.vae import VAE

MakeVAE = Callable[..., VAE]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.ckpt"


def test_weights_come_back_in_the_dtype_of_the_model(make_vae: MakeVAE, path: Path):
    source, target = make_vae(), make_vae().double()
    torch.nn.init.normal_(source.posterior.gaussian.weight)
    save_checkpoint(path, {"weights": source.state_dict()})
    load_weights(target, str(path))
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name].double()), name


def test_plain_values_come_back_as_they_were(path: Path):
    content = {"weights": {}, "history": [{"epoch": 1, "value": 0.1, "nothing": None}], "run": {"name": "a"}}
    save_checkpoint(path, content)
    loaded = load_checkpoint(path, "history")
    assert {name: loaded[name] for name in content} == content


def test_a_checkpoint_of_another_model_is_refused(make_vae: MakeVAE, path: Path):
    save_checkpoint(path, {"weights": make_vae("planar").state_dict()})
    model = make_vae("none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"weights of this VAE, got unexpected: posterior\.flow.* Build the model"
    ):
        load_weights(model, path)
    with pytest.raises(CheckpointError, match=r"got missing: .* and \d+ more"):
        load_weights(make_vae("ffjord", hidden_dims=(4,)), path)
    pattern = r"of another shape: .*posterior\.gaussian\.weight \(4, 6\) instead of \(6, 6\)"
    with pytest.raises(CheckpointError, match=pattern):
        load_weights(make_vae("planar", latent_dim=3), path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_missing_file_is_named(make_vae: MakeVAE, path: Path):
    with pytest.raises(CheckpointError, match=r"checkpoint: expected a file at .*last\.ckpt, got none"):
        load_weights(make_vae(), path)
    with pytest.raises(CheckpointError, match=r"checkpoint: expected a file at .*, got none"):
        load_weights(make_vae(), path.with_name("n" * 300))


@pytest.mark.parametrize("kept", [0, 1, 1000, -10])
def test_a_truncated_file_is_refused(make_vae: MakeVAE, path: Path, kept: int):
    save_checkpoint(path, {"weights": make_vae().state_dict()})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="expected a readable file, got damage"):
        load_weights(make_vae(), path)


def test_a_flipped_bit_is_noticed(make_vae: MakeVAE, path: Path):
    weights = make_vae().state_dict()
    save_checkpoint(path, {"weights": weights})
    content = bytearray(path.read_bytes())
    content[content.index(weights["posterior.gaussian.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"expected a readable file, got damage .* another checksum"):
        load_weights(make_vae(), path)


def test_code_is_not_run_by_loading(make_vae: MakeVAE, path: Path):
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (path.with_name("ran"),)

    torch.save({"weights": Harmful()}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match=r"expected tensors and plain values, got others: .*pathlib"):
        load_weights(make_vae(), path)
    assert not path.with_name("ran").exists()


@pytest.mark.parametrize("value", [np.float64(0.5), Fraction(1, 2), {"deep": [(Path("a"),)]}], ids=str)
def test_what_could_not_be_read_again_is_not_written(path: Path, value: object):
    with pytest.raises(CheckpointError, match=r"expected tensors and plain values, got others: .*(numpy|frac|path)"):
        save_checkpoint(path, {"weights": {"a": torch.ones(2)}, "rate": value})
    assert not path.exists()


def test_other_files_are_refused(make_vae: MakeVAE, path: Path):
    torch.save(make_vae().state_dict(), path)
    with pytest.raises(CheckpointError, match="expected the format 'vae-flows checkpoint 1', got None"):
        load_weights(make_vae(), path)
    save_checkpoint(path, {"weights": {}})
    with pytest.raises(CheckpointError, match="expected weights and optimizer, got weights, format"):
        load_checkpoint(path, "weights", "optimizer")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressed_archives_are_not_unpacked(make_vae: MakeVAE, path: Path, method: int):
    save_checkpoint(path.with_name("stored"), {"weights": make_vae().state_dict()})
    with zipfile.ZipFile(path.with_name("stored")) as stored, zipfile.ZipFile(path, "w", method) as packed:
        for member in stored.namelist():
            packed.writestr(member, stored.read(member))
        packed.writestr("best/data/bomb", bytes(10**7))
    with pytest.raises(CheckpointError, match=r"expected a readable file, got damage \(it is compressed or encrypted"):
        load_weights(make_vae(), path)


def test_archives_larger_inside_than_outside_are_not_unpacked(make_vae: MakeVAE, path: Path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data/0", bytes(10**6))
        first = archive.infolist()[0]
        for number in range(1, 50):  # all of them the same bytes
            again = copy.copy(first)
            again.filename = f"best/data/{number}"
            archive.filelist.append(again)
    with pytest.raises(CheckpointError, match=r"got damage \(File name in directory"):
        load_weights(make_vae(), path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data/0", bytes(10**6))
        archive.infolist()[0].file_size *= 50
    with pytest.raises(CheckpointError, match=r"got damage \(its parts are larger than the whole"):
        load_weights(make_vae(), path)
