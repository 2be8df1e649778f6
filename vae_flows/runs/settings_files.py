"""Settings of runs in files of one's own: JSON as a run's `settings.json` is, or TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vae_flows.errors import DataError, InvalidInputError, VAEFlowsError, complaint
from vae_flows.persistence.files import read_file
from vae_flows.persistence.json_files import MAX_JSON_BYTES, read_json, to_json
from vae_flows.runs.folder import SETTINGS
from vae_flows.runs.settings import RunSettings, from_settings_json, to_settings_json

__all__ = ["read_settings", "settings_text"]


def read_settings(path: Path, absent: Mapping[str, Any] | None = None) -> tuple[RunSettings, ...]:
    """Read the settings of a run, or those of several from a list of them in JSON.

    Arguments:
        path: A `.json` or `.toml` file, or the folder of a run.
        absent: Fields for files that do not have them, such as the data; others take the defaults of `RunSettings`.

    Raises:
        DataError: There is no such file, or it is neither JSON nor TOML.
        InvalidInputError: A setting is unknown, wrong, or required and missing; the message names the file.
    """
    path = path / SETTINGS if path.is_dir() else path
    plain = _read_toml(path) if path.suffix == ".toml" else read_json(path)
    entries = plain if isinstance(plain, list) else [plain]
    if not entries:
        raise InvalidInputError(complaint(str(path), "the settings of a run, or of several", "an empty list"))
    try:
        return tuple(
            from_settings_json({**(absent or {}), **entry} if isinstance(entry, Mapping) else entry, path)
            for entry in entries
        )
    except DataError:
        raise
    except VAEFlowsError as error:
        raise InvalidInputError(f"{path}: {error}") from None


def settings_text(runs: Sequence[RunSettings]) -> str:
    """Return the JSON that `read_settings` reads: of one run as its `settings.json`, of several as a list.

    Example:
        >>> print(settings_text([RunSettings("omniglot", "none")])[:16])
        {
          "format": 2,
    """
    plain = [to_settings_json(settings) for settings in runs]
    return to_json(plain[0] if len(plain) == 1 else plain)


def _read_toml(path: Path) -> Any:
    try:
        return tomllib.loads(read_file(path, limit=MAX_JSON_BYTES).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(complaint(str(path), "a TOML file", f"something else: {error}")) from None
