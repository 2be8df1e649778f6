"""Files that data sets come from: checked before use, cached, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from vae_flows.errors import DataError, FileError, complaint
from vae_flows.persistence.files import written_whole

__all__ = ["MAX_FILE_BYTES", "cache_folder", "check_digest", "fetch", "network_timeout"]

MAX_FILE_BYTES = 2**30
"""No file of these sources is as large: more is not read."""
TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""


def cache_folder(root: Path | str | None) -> Path:
    """Return `root`, or where it is `None` the folder `vae-flows` in the user's cache."""
    if root is not None:
        return Path(root).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vae-flows"


def check_digest(subject: str, content: bytes, algorithm: str, expected: str, remedy: str) -> bytes:
    """Return `content` if its checksum is the expected one.

    Raises:
        DataError: It is another; the message names `subject` and both checksums, and ends with `remedy`.

    Example:
        >>> check_digest("a.npz", b"damaged", "md5", "0" * 32, "Reinstall vae-flows.")
        Traceback (most recent call last):
        vae_flows.errors.DataError: a.npz: expected md5 0000..., got 46cc... Reinstall vae-flows.
    """
    actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DataError(complaint(subject, f"{algorithm} {expected}", actual, remedy))
    return content


def fetch(url: str, path: Path, md5: str) -> bytes:
    """Fetch a file, check it, keep it at `path` and return its content.

    Raises:
        DataError: It cannot be had or kept, or is not the file that was expected; then nothing is written.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            content = response.read(MAX_FILE_BYTES)
    except (OSError, HTTPException) as error:
        remedy = f"Connect to the network, or fetch the file elsewhere and pass path=… or place it at {path}."
        raise DataError(complaint(url, "a download", f"{type(error).__name__} ({error})", remedy)) from error
    check_digest(url, content, "md5", md5, "Try again later: what came is not the published file.")
    try:
        with written_whole(path) as file:
            file.write(content)
    except FileError as error:
        remedy = "Pass root=… with a folder that can be written to."
        raise DataError(complaint(str(path), "a place for the download", f"{error}", remedy)) from error
    return content


@contextmanager
def network_timeout(seconds: float = TIMEOUT) -> Iterator[None]:
    """Give sockets opened inside a time limit, for libraries that set none and would wait for ever."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)
