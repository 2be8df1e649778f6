"""The data sets that come with the package: static MNIST, Caltech 101 Silhouettes, Frey Faces and OMNIGLOT."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from vae_flows.data.arrays import from_arrays, require_binary
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import Images, Pixels
from vae_flows.data.sources import check_digest
from vae_flows.data.splits import Rows, hold_out
from vae_flows.errors import DataError, complaint
from vae_flows.persistence.archives import read_npz

__all__ = ["caltech101_silhouettes", "frey_faces", "mnist_static", "omniglot"]

FOLDER = resources.files("vae_flows.data") / "files"
SHA256 = {
    "mnist_static.npz": "7660137098b495da8c44bff294c1ddc9f7bcf865c7fe1438f054c447af2ed8b1",
    "caltech101_silhouettes_28_split1.npz": "0dce340be00438e9e73a634b3beef5be29c269a55acc15d09a9a466342a893b6",
    "freyfaces.npz": "8ada0f54049db14f994733fd46d10b25591194185c347ae7222388501aa08f10",
    "omniglot_28.npz": "fd66ef0fdaa3a2d2b58228020e41eaff9829f2cc7956a5c0413ffafd194a9363",
}
REMEDY = "Reinstall vae-flows: a file of the package is damaged."
STORED_SPLITS = ("train", "val", "test")
FREY_HELD_OUT = (200, 200)
OMNIGLOT_VALIDATION = 1345


def mnist_static(*, pixels: Pixels | None = None) -> DataSet:
    """Load statically binarised MNIST: 50,000 / 10,000 / 10,000 images of 28 × 28 bits, the literature's split."""
    require_binary("mnist-static", pixels)
    arrays = _read("mnist_static.npz")
    splits = [Images(torch.from_numpy(arrays[split]), (1, 28, 28), packed=True) for split in STORED_SPLITS]
    description = "MNIST (LeCun, Cortes, Burges), binarised once by Larochelle and Murray (2011); their split"
    return DataSet("mnist-static", *splits, pixels="binary", description=description)


def caltech101_silhouettes(*, pixels: Pixels | None = None) -> DataSet:
    """Load Caltech 101 Silhouettes: 4,100 / 2,264 / 2,307 images of 28 × 28 bits, upright, the object 1."""
    require_binary("caltech101-silhouettes", pixels)
    arrays = _read("caltech101_silhouettes_28_split1.npz")
    bits = [np.unpackbits(arrays[split], axis=1, count=784) for split in STORED_SPLITS]
    # The authors' file has the background 1 and images column by column.
    train, validation, test = (1 - split.reshape(-1, 28, 28).transpose(0, 2, 1) for split in bits)
    return from_arrays(
        train,
        validation,
        test,
        labels=[arrays[f"{split}_labels"] for split in STORED_SPLITS],
        name="caltech101-silhouettes",
        description="Caltech 101 Silhouettes (Marlin, Swersky, Chen, de Freitas 2010), their split 1",
    )


def frey_faces(*, pixels: Pixels | None = None, split_seed: int | None = None) -> DataSet:
    """Load Frey Faces: 1,565 / 200 / 200 grey images of 28 × 20, shuffled with seed 123 unless another is given."""
    faces = Rows(_read("freyfaces.npz")["data"])
    parts = hold_out("frey-faces", len(faces), FREY_HELD_OUT, split_seed)
    train, validation, test = (faces.select(part).values for part in parts)
    return from_arrays(
        train,
        validation,
        test,
        image_shape=(1, 28, 20),
        pixels=pixels or "grey",
        name="frey-faces",
        description="Frey Faces (Frey and Roweis); no official split: the benchmark's shuffle, by seed",
    )


def omniglot(*, pixels: Pixels | None = None, split_seed: int | None = None) -> DataSet:
    """Load OMNIGLOT: 23,000 / 1,345 / 8,115 images of 28 × 28 grey levels, binarised dynamically by default."""
    arrays = _read("omniglot_28.npz")
    drawings = Rows(arrays["train"], arrays["train_labels"])
    parts = hold_out("omniglot", len(drawings), (OMNIGLOT_VALIDATION,), split_seed)
    train, validation = (drawings.select(part) for part in parts)
    return from_arrays(
        train.values,
        validation.values,
        arrays["test"],
        image_shape=(1, 28, 28),
        pixels=pixels or "binary",
        labels=(train.labels, validation.labels, arrays["test_labels"]),
        name="omniglot",
        description="OMNIGLOT (Lake, Salakhutdinov, Tenenbaum 2015); own split and reduction: same sizes as the "
        "literature's (8,115 test images for 8,070), not the same images",
    )


def _read(file: str) -> dict[str, np.ndarray]:
    try:
        content = (FOLDER / file).read_bytes()
    except OSError as error:
        raise DataError(complaint(file, "a file of the package", f"{type(error).__name__}", REMEDY)) from error
    check_digest(file, content, "sha256", SHA256[file], REMEDY)
    return read_npz(Path(file), content=io.BytesIO(content))
