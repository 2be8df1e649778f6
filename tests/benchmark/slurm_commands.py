"""SLURM's commands as far as submitit calls them, on this machine: one job runs in one session of processes.

`sbatch` refuses a job for each line of the file `refusals`; a file `state` of a job is its state.
"""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

COMMANDS = {
    "sbatch": """
        if [ -s "$SLURM_FAKE/../refusals" ]; then
            sed -i 1d "$SLURM_FAKE/../refusals"; echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1
        fi
        number=1; while ! mkdir "$SLURM_FAKE/$number" 2> /dev/null; do number=$((number + 1)); done
        grep '^#SBATCH' "$1" > "$SLURM_FAKE/$number/options"
        SLURM_JOB_ID=$number setsid bash -c 'echo $$ > "$SLURM_FAKE/$SLURM_JOB_ID/session"
            bash "$0"; echo $? > "$SLURM_FAKE/$SLURM_JOB_ID/status"' "$1" > /dev/null 2>&1 < /dev/null &
        echo "Submitted batch job $number"
    """,
    "srun": """
        while [ "${1#--}" != "$1" ]; do
            case "$1" in --output) out="$2"; shift 2;; --error) err="$2"; shift 2;; *) shift;; esac
        done
        out="${out//%j/$SLURM_JOB_ID}"; err="${err//%j/$SLURM_JOB_ID}"
        exec "$@" >> "${out//%t/0}" 2>> "${err//%t/0}"
    """,
    "sacct": """
        echo 'JobID|State|NodeList'
        for folder in "$SLURM_FAKE"/*/; do
            state=RUNNING
            session=$(cat "$folder/session" 2> /dev/null)
            if [ -e "$folder/state" ]; then state=$(cat "$folder/state")
            elif [ -e "$folder/cancelled" ]; then state='CANCELLED by 0'
            elif [ -e "$folder/status" ]; then state=FAILED; [ "$(cat "$folder/status")" = 0 ] && state=COMPLETED
            elif [ -n "$session" ] && ! kill -0 "$session" 2> /dev/null; then state=NODE_FAIL; fi
            echo "$(basename "$folder")|$state|here"
        done
    """,
    "scancel": """
        touch "$SLURM_FAKE/$1/cancelled"
        kill -KILL -- "-$(cat "$SLURM_FAKE/$1/session")" 2> /dev/null || true
    """,
}


def write_commands(folder: Path) -> dict[str, str]:
    """Write the commands to a folder, and return the environment in which they are found."""
    for name, script in COMMANDS.items():
        path = folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "jobs").mkdir()
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "SLURM_FAKE": str(folder / "jobs")}


def sessions(folder: Path) -> list[int]:
    """Return the sessions of all jobs that were submitted, in order."""
    jobs = sorted((folder / "jobs").iterdir(), key=lambda job: int(job.name))
    return [int((job / "session").read_text()) for job in jobs if (job / "session").exists()]


def refuse(folder: Path, times: int) -> None:
    """Let SLURM refuse jobs, as above the limit of a user."""
    (folder / "refusals").write_text("no\n" * times)


def end_all(folder: Path) -> None:
    """End what still runs."""
    for session in sessions(folder):
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
