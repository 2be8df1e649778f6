import hashlib
import os
import socket

import pytest

from vae_flows.data.sources import cache_folder, fetch, network_timeout
from vae_flows.errors import DataError

CONTENT = b"some published bytes"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path):
    published = tmp_path / "published"
    published.write_bytes(CONTENT)
    return published.as_uri()


def test_the_cache_is_the_users_unless_a_root_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "vae-flows"
    assert cache_folder(tmp_path / "mine") == tmp_path / "mine"
    assert "~" not in str(cache_folder("~/data"))


def test_a_fetched_file_is_returned_and_kept(url, tmp_path):
    kept = tmp_path / "a" / "b" / "file.mat"
    assert fetch(url, kept, MD5) == CONTENT
    assert kept.read_bytes() == CONTENT
    assert os.listdir(kept.parent) == ["file.mat"]


def test_another_file_than_the_published_one_is_not_kept(url, tmp_path):
    with pytest.raises(DataError, match=rf"published: expected md5 {'0' * 32}, got {MD5}\. Try again later"):
        fetch(url, tmp_path / "cache" / "file.mat", "0" * 32)
    assert not (tmp_path / "cache").exists()


def test_without_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"expected a download, got URLError.*pass path=… or place it at .*file\.mat"):
        fetch((tmp_path / "nowhere").as_uri(), tmp_path / "file.mat", MD5)


def test_a_folder_that_cannot_be_written_is_named(url, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected a place for the download.*Pass root=…"):
        fetch(url, tmp_path / "file" / "below" / "x.mat", MD5)


def test_the_time_limit_of_sockets_is_put_back():
    before = socket.getdefaulttimeout()
    with network_timeout(7.0):
        assert socket.getdefaulttimeout() == 7.0
    assert socket.getdefaulttimeout() == before
    with pytest.raises(KeyError), network_timeout(7.0):
        raise KeyError
    assert socket.getdefaulttimeout() == before
