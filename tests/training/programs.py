"""Programs that train in processes of their own, and what each process reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["reports_of"]

SECONDS = 200  # for two processes to come up and train on a busy machine


def reports_of(script: str, folder: Path, devices: int) -> list[dict[str, Any]]:
    """Run a script with a folder, made here, and a number of devices; return `report-<rank>.json` of each process."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(script)
    command = [sys.executable, str(folder / "script.py"), str(folder), str(devices)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, env=environment, timeout=SECONDS, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(devices)]
