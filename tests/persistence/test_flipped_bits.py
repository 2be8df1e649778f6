"""Each bit of a small archive is flipped in turn: its reader returns the same contents or one error, never others.

Contents have checksums, but what an archive lists has none, and readers decide by the presence of optional entries.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.seeds import numpy_generator
from vae_flows.data import load
from vae_flows.errors import CheckpointError, DataError, VAEFlowsError
from vae_flows.evaluation.finished import count_finished, finished_values
from vae_flows.persistence.archives import read_npz
from vae_flows.persistence.weights import read_torch_file
from vae_flows.runs.scores import RunScores, read_scores, write_scores
from vae_flows.training.checkpoint import save_checkpoint

BITS = numpy_generator().random((8, 2, 2)) < 0.5


def _write_splits(path: Path) -> None:
    labels = np.arange(8)
    np.savez_compressed(path, train=BITS, train_labels=labels, val=BITS[:3], val_labels=labels[:3], test=BITS[:2])


def _read_splits(path: Path) -> Any:
    data = load(path)
    return [
        (part.batch().tolist(), None if part.labels is None else part.labels.tolist())
        for part in (data.train, data.validation, data.test)
    ]


def _write_optional(path: Path) -> None:
    # The second takes 64 bytes of the directory: a single bit of a length can hide it.
    np.savez_compressed(path, images=BITS, fourteen_lettr=np.arange(3), labels=np.arange(2))


def _read_optional(path: Path) -> Any:
    arrays = read_npz(path, ["images"], optional=["fourteen_lettr", "labels"])
    return {name: array.tolist() for name, array in arrays.items()}


def _write_scores(path: Path) -> None:
    write_scores(path, RunScores(np.arange(3), np.ones(3), np.full(3, 0.5), 7))


def _read_scores(path: Path) -> Any:
    scores = read_scores(path)
    likelihood = scores.negative_log_likelihood
    return (
        scores.images.tolist(),
        scores.negative_elbo.tolist(),
        None if likelihood is None else likelihood.tolist(),
        scores.importance_samples,
    )


def _write_checkpoint(path: Path) -> None:
    save_checkpoint(path, {"weights": {"a": torch.arange(3.0)}})


def _read_checkpoint(path: Path) -> Any:
    content = read_torch_file(path)
    return content["format"], {name: (tensor.dtype, tensor.tolist()) for name, tensor in content["weights"].items()}


def _write_finished(path: Path) -> None:
    with finished_values(path, 2, {"bound": ()}, "key") as values:
        values.put(torch.tensor([0]), torch.tensor([5]), {"bound": torch.tensor([1.5])})
        values.took(2.0)


def _read_finished(path: Path) -> Any:
    with finished_values(path, 2, {"bound": ()}, "key") as values:
        found = str(values.values["bound"].tolist()), values.done.tolist(), values.seconds
        kept = values.holds(torch.tensor([0]), torch.tensor([5]))
    return found, kept, count_finished(path)


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], type[VAEFlowsError]]] = {
    "splits.npz": (_write_splits, _read_splits, DataError),
    "optional.npz": (_write_optional, _read_optional, DataError),
    "scores.npz": (_write_scores, _read_scores, DataError),
    "last.ckpt": (_write_checkpoint, _read_checkpoint, CheckpointError),
    "finished.safetensors": (_write_finished, _read_finished, CheckpointError),
}


def _flipped(whole: bytes, all_bits: bool) -> Iterator[tuple[str, bytes]]:
    for place, byte in enumerate(whole):
        for bit in range(8) if all_bits else (place % 8,):
            damaged = bytes([byte ^ 1 << bit])
            yield f"bit {bit} of byte {place} of {len(whole)}", whole[:place] + damaged + whole[place + 1 :]


@pytest.mark.parametrize("all_bits", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one", "all"])
@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_gives_the_same_contents_or_one_error(tmp_path: Path, name: str, all_bits: bool) -> None:
    write, read, error = READERS[name]
    path = tmp_path / name
    write(path)
    whole, right = path.read_bytes(), read(path)
    refused, wrong = 0, list[str]()
    for where, damaged in _flipped(whole, all_bits):
        path.write_bytes(damaged)
        try:
            if read(path) != right:
                wrong.append(f"{where}: other contents")
        except error:
            refused += 1
        except Exception as raw:
            wrong.append(f"{where}: {raw!r}")
    assert not wrong, "\n".join(wrong[:20])
    assert refused > len(whole) / 2


def _rewritten(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Change an archive from where its directory begins."""
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content = bytearray(path.read_bytes())
    change(content, start)
    path.write_bytes(content)


def test_an_entry_that_another_hides_is_missed(tmp_path: Path) -> None:
    """A single bit makes the entry of 64 bytes a comment of the one before it."""
    path = tmp_path / "a.npz"
    _write_optional(path)
    right = _read_optional(path)

    def hide(content: bytearray, start: int) -> None:
        content[start + 32] ^= 64

    _rewritten(path, hide)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["images.npy", "labels.npy"]
    with pytest.raises(DataError, match="a directory of 2 entries that declares 3"):
        _read_optional(path)
    _rewritten(path, hide)
    assert _read_optional(path) == right


def test_an_array_under_two_names_of_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    _write_optional(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images", archive.read("images.npy"))
    with pytest.raises(DataError, match="images twice"):
        _read_optional(path)


@pytest.mark.parametrize("name", ["validaton", "valid_label", "notes"])
def test_a_name_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    """It may be a wanted one that is misspelt, and its absence would choose another split."""
    path = tmp_path / "a.npz"
    np.savez(path, **{"train": BITS, "test": BITS, name: BITS})
    with pytest.raises(DataError, match=rf"a\.npz arrays: expected names among train, .*, got {name}\."):
        load(path)
