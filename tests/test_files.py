import os
import stat

import pytest

from vae_flows.files import written_whole


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_file_appears_when_it_is_whole(tmp_path):
    with written_whole(tmp_path / "new" / "file") as file:
        file.write(b"half")
        assert "file" not in contents(tmp_path / "new")
        file.write(b" and half")
    assert contents(tmp_path / "new") == {"file": b"half and half"}


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with written_whole(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == {"file": b"old"}


def test_a_failed_replacement_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(source, target):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", refuse)

    def write():
        with written_whole(path) as file:
            file.write(b"new")

    with pytest.raises(OSError, match="no space"):
        write()
    assert contents(tmp_path) == {"file": b"old"}


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with written_whole(tmp_path / "whole"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")}
    assert len(modes) == 1
