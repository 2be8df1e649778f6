"""OMNIGLOT in the literature's own form, `chardata.mat` of the importance weighted autoencoder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from vae_flows.data.arrays import fixed_binarization, from_arrays, require_binary
from vae_flows.data.data_set import DataSet
from vae_flows.data.images import TOP_LEVEL, Pixels
from vae_flows.data.sources import MAX_FILE_BYTES, cache_folder, check_digest, fetch
from vae_flows.data.splits import hold_out
from vae_flows.errors import DataError, FileError, complaint
from vae_flows.persistence.files import read_file

__all__ = ["omniglot_iwae"]

URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
MD5 = "21ecaf34373511aa7691cf2e0802aa3d"
VALIDATION = 1345


def omniglot_iwae(
    *,
    root: Path | str | None = None,
    path: Path | str | None = None,
    pixels: Pixels | None = None,
    split_seed: int | None = None,
    download: bool = True,
) -> DataSet:
    """Load the literature's OMNIGLOT: 23,000 / 1,345 / 8,070 images of 28 × 28, binarised dynamically.

    Validation images are the last of the training file after a shuffle, whose seed the literature leaves to the run;
    the binarisation of validation and test is drawn once from the original probabilities, with seed 777.

    Arguments:
        root: Folder that keeps the downloaded file; by default in the user's cache.
        path: The file, where the user has it.
        pixels: `"binary"`, if anything.
        split_seed: Of the shuffle that chooses the validation images.
        download: Whether to fetch a file that is not there.

    Raises:
        DataError: The file is missing, cannot be fetched, or has another checksum.
    """
    require_binary("omniglot-iwae", pixels)
    original, test = _read_images(_content(root, path, download))
    chosen, held_out = hold_out("omniglot-iwae", len(original), (VALIDATION,), split_seed)
    train = np.rint(original[chosen] * np.float32(TOP_LEVEL)).astype(np.uint8)
    rounding = np.abs(original[chosen] - train / TOP_LEVEL).max()
    validation, test = fixed_binarization(original[held_out], test)
    return from_arrays(
        train,
        validation,
        test,
        pixels="binary",
        name="omniglot-iwae",
        description="OMNIGLOT (Lake, Salakhutdinov, Tenenbaum 2015) as reduced by Burda, Grosse, Salakhutdinov (2016); "
        f"their test images; grey levels of training rounded to 256 levels, at most {rounding:.1g} off",
    )


def _content(root: Path | str | None, path: Path | str | None, download: bool) -> bytes:
    if path is not None:
        file, remedy = Path(path).expanduser(), "Pass the published chardata.mat."
    else:
        file, remedy = cache_folder(root) / "omniglot-iwae" / "chardata.mat", "Delete it, to have it fetched again."
        if download and not file.exists():
            return fetch(URL, file, MD5)
    try:
        content = read_file(file, limit=MAX_FILE_BYTES)
    except FileError as error:
        remedy = f"Pass path=… or allow the download from {URL}."
        raise DataError(complaint(str(file), "OMNIGLOT's chardata.mat", f"no such file ({error})", remedy)) from error
    return check_digest(str(file), content, "md5", MD5, remedy)


def _read_images(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Read training and test images `(N, 28, 28)`, float32; the file has one per column, pixels column-wise."""
    from scipy.io import loadmat  # a second to import, for one data set

    arrays = loadmat(io.BytesIO(content), variable_names=["data", "testdata"])
    train, test = (arrays[key].T.astype(np.float32).reshape(-1, 28, 28) for key in ("data", "testdata"))
    return train.transpose(0, 2, 1), test.transpose(0, 2, 1)
