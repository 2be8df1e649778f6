"""Files are whole or absent."""

import pytest

from vae_flows.errors import DataError
from vae_flows.persistence.json_files import read_json, write_atomically, write_json


def test_json_survives_and_nan_becomes_null(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"−ELBO": 1.5, "list": [float("nan"), (float("inf"), 2)], "none": None})
    assert read_json(path) == {"−ELBO": 1.5, "list": [None, [None, 2]], "none": None}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, 1)
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    with pytest.raises(TypeError):
        write_json(path, {"object": object()})
    assert read_json(path) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_bad_json_is_told_by_its_path(tmp_path):
    with pytest.raises(DataError, match=r"absent.json: expected a JSON file, got no file"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(DataError, match=r"half.json: expected a JSON file, got something else"):
        read_json(tmp_path / "half.json")
