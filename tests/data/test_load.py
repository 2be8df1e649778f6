import os
import subprocess
import sys

import numpy as np
import pytest

from vae_flows.data import available_data_sets, load
from vae_flows.errors import DataError, InvalidInputError, UnknownNameError


def test_names_are_sorted_and_unique():
    names = available_data_sets()
    assert list(names) == sorted(set(names))
    assert {"caltech101-silhouettes", "frey-faces", "mnist-static", "omniglot", "omniglot-iwae", "mnist"} <= set(names)


def test_names_may_be_in_any_case():
    assert load("Frey-Faces").name == "frey-faces"


def test_an_unknown_name_brings_the_nearest_ones():
    expected = r"expected the path of a file or a folder, or one of .*got 'mnist-statik'\. Did you mean 'mnist-st"
    with pytest.raises(UnknownNameError, match=f"data set: {expected}"):
        load("mnist-statik")


@pytest.mark.parametrize("name", ["missing.npz", "./missing", "folder/"])
def test_a_path_without_data_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"'{name}': expected an .npz, .npy or .csv file or a folder.*no such path"):
        load(name)


def test_a_name_comes_before_a_folder_of_that_name_but_a_path_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frey-faces").mkdir()
    assert load("frey-faces").name == "frey-faces"
    with pytest.raises(DataError, match="frey-faces: expected pictures"):
        load("./frey-faces")


def test_a_folder_can_be_given_by_its_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-pictures").mkdir()
    with pytest.raises(DataError, match="my-pictures: expected pictures"):
        load("my-pictures")


def test_options_without_use_are_refused(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"data set 'mnist-static': expected options among pixels, got split_seed"
    ):
        load("mnist-static", split_seed=1)
    with pytest.raises(InvalidInputError, match=r"got image_size, path"):
        load("frey-faces", image_size=14, path=tmp_path)
    np.savez(tmp_path / "mine.npz", images=np.zeros((20, 2, 2)))
    with pytest.raises(InvalidInputError, match=r"got channels, image_size"):
        load(tmp_path / "mine.npz", image_size=14, channels=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": 5}, "data set: expected a name or a path, got 5"),
        ({"name": None}, "a name or a path"),
        ({"name": "frey-faces", "split_seed": -1}, "split_seed: expected an integer"),
        ({"name": "frey-faces", "split_seed": "x"}, "split_seed: expected an integer"),
        ({"name": "frey-faces", "split_seed": True}, "split_seed: expected an integer"),
        ({"name": "frey-faces", "pixels": "gray"}, "pixels: expected 'binary'"),
        ({"name": "frey-faces", "root": 3}, "root: expected a path or None"),
        ({"name": "frey-faces", "download": "no"}, "download: expected True or False"),
        ({"name": "omniglot-iwae", "path": 3}, "path: expected a path or None"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        load(**arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/zero", "a device, a pipe or a socket"),
        ("a" * 300 + ".npz", "too long"),
        ("link.npz", "levels of symbolic links"),
        ("file/a.npz", "Not a directory"),
        ("pipe.npz", "a device, a pipe or a socket"),
        ("a\0.npz", "null"),
        ("~nobody-of-this-name/a.npz", "a path"),
    ],
)
def test_what_is_neither_file_nor_folder_is_named(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.npz").symlink_to("link.npz")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match=message):
        load(name)


def test_root_and_download_are_for_every_data_set(tmp_path):
    load("frey-faces", root=tmp_path, download=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_importing_leaves_out_what_few_need():
    code = "import sys, vae_flows.data; print([m for m in ('torchvision', 'scipy.io', 'PIL') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
