"""Several files of a folder that are replaced together: all of them are new, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from vae_flows.persistence.files import file_errors, sync_folder, written_whole

__all__ = ["complete_batch", "write_batch"]

ARRIVING, ARRIVED = ".arriving", ".arrived"


def write_batch(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files by name to a folder, so that a crash leaves the old ones or, after `complete_batch`, the new ones.

    Whoever reads them without waiting sees them change one after the other, in the order given.

    Arguments:
        folder: A folder in which no other process works.
        contents: What each file is to hold.

    Raises:
        FileError: One cannot be written; all are as they were.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_batch(folder, {"weights": b"1", "epoch": b"1"})
        >>> sorted(file.name for file in folder.iterdir())
        ['epoch', 'weights']
    """
    complete_batch(folder)
    staged = folder / ARRIVING
    with file_errors(staged, "a folder that can be made"):
        staged.mkdir(parents=True)
    for place, (name, content) in enumerate(contents.items()):
        with written_whole(staged / f"{place:09d} {name}") as file:
            file.write(content)
    with file_errors(folder, "a folder that can be written to"):
        os.replace(staged, folder / ARRIVED)
    sync_folder(folder)
    complete_batch(folder)


def complete_batch(folder: Path) -> None:
    """Finish what a `write_batch` that was killed had written whole, and remove what it had not.

    Raises:
        FileError: The folder cannot be written to.
    """
    with file_errors(folder, "a folder that can be written to"):
        if (folder / ARRIVING).is_dir():
            shutil.rmtree(folder / ARRIVING)
        if not (folder / ARRIVED).is_dir():
            return
        for file in sorted((folder / ARRIVED).iterdir()):
            os.replace(file, folder / file.name.partition(" ")[2])
        sync_folder(folder)
        (folder / ARRIVED).rmdir()
