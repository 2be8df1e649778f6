"""Archives that are damaged, hostile or too large end in one error, before memory is taken."""

import io
import os
import resource
import zipfile

import numpy as np
import pytest

from tests.seeds import numpy_generator
from vae_flows.errors import DataError
from vae_flows.persistence import archives
from vae_flows.persistence.archives import read_npz, require_memory

VALUES = numpy_generator().integers(0, 256, (50, 6, 5), dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        np.asfortranarray(VALUES[..., 0]),
        VALUES[:0],
        np.float64(3.0),
        VALUES.astype(">i4"),
        VALUES > 99,
        np.arange(3.0),
    ],
    ids=["C", "Fortran", "empty", "scalar", "big endian", "bool", "float"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_as_it_was(path, array, save):
    save(path, images=array, other=np.array(["x"]))
    read = read_npz(path, ["images"], optional=["other", "more"])
    assert list(read) == ["images", "other"]
    np.testing.assert_array_equal(read["images"], array)
    assert read["images"].dtype == array.dtype
    assert read["images"].flags.writeable
    assert sorted(read_npz(path)) == ["images", "other"]


def test_arrays_that_are_missing_are_named_where_they_are_needed(path):
    np.savez(path, images=VALUES)
    with pytest.raises(DataError, match=r"a.npz: expected an .npz file of plain arrays, got no array labels, more"):
        read_npz(path, ["images", "labels", "more"])
    assert list(read_npz(path, ["images"], optional=["labels"])) == ["images"]
    with pytest.raises(
        DataError, match=r"a.npz arrays: expected names among labels, image, got images\. Did you mean 'im"
    ):
        read_npz(path, (), optional=["labels", "image"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_flipped_bit_and_no_cut_is_read_or_ends_in_another_error(path, method):
    """Every byte of a file is flipped in turn: the right arrays come out, or one error."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", npy(VALUES[:3]))
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                np.testing.assert_array_equal(read_npz(path, ["images"])["images"], VALUES[:3])
            except DataError:
                refused += 1
    assert refused > len(whole)


def test_encrypted_archives_are_told(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", npy(VALUES))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the entry, there and in the directory
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        read_npz(path)


def test_methods_that_python_does_not_know_are_told(path):
    np.savez(path, images=VALUES)
    content = bytearray(path.read_bytes())
    content[8] = content[content.rindex(b"PK\x01\x02") + 10] = 97
    path.write_bytes(content)
    with pytest.raises(DataError, match="compression"):
        read_npz(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_are_refused_before_memory_is_taken(path, method):
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("images.npy", "w") as stream:
        header = npy(np.empty((0, 8, 8), np.uint8)).replace(b"(0, 8, 8), }         ", b"(4194304, 8, 8), }   ")
        stream.write(header)
        for _ in range(16):
            stream.write(bytes(2**24))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"images.npy: expected arrays packed at most 500-fold"):
        read_npz(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_no_more_is_read_than_fits(path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 2 * VALUES.size)
    np.savez(path, images=VALUES)
    assert read_npz(path)["images"].shape == VALUES.shape
    np.savez(path, images=VALUES, more=VALUES)
    with pytest.raises(DataError, match="MiB once unpacked"):
        read_npz(path)
    monkeypatch.setattr(archives, "MAX_BYTES", 2**60)
    with pytest.raises(DataError, match="MiB once unpacked"):
        require_memory("a", 2**59)


@pytest.mark.parametrize("shape", ["(10**9, 6, 5)", "(-50, 6, 5)", "(50, 6, 4)", "(999999999999, 6, 5)"])
def test_a_declared_shape_must_be_that_of_the_content(path, shape):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }" % shape  # noqa: UP031
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + VALUES.tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError, match=r"a.npz: expected an .npz file of plain arrays"):
        read_npz(path)


@pytest.mark.parametrize("kind", ["pickle", "npy", "text", "empty", "folder", "pipe", "missing", "device"])
def test_what_is_no_archive_is_refused_at_once(path, kind):
    match kind:
        case "pickle":
            np.savez(path, images=np.array([{}], object))
        case "npy":
            path.write_bytes(npy(VALUES))
        case "text":
            path.write_text("not a zip")
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            pass
    with pytest.raises(DataError, match=r"a.npz: expected an .npz file of plain arrays"):
        read_npz(path)
