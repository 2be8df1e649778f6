"""Files are whole or absent; a folder has one process at a time."""

import subprocess
import sys

import pytest

from experiments.files import exclusive, read_json, write_atomically, write_json
from vae_flows.errors import DataError, InvalidInputError


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


def test_a_folder_is_locked_until_its_process_ends(tmp_path):
    script = (
        "import fcntl, sys, time\n"
        f"lock = open({str(tmp_path / '.lock')!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InvalidInputError, match="another process works in"), exclusive(tmp_path):
            pass
        other.kill()
    with exclusive(tmp_path):
        pass
