"""One task of the comparison in a process of its own, with its number of threads: nothing that ran before counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.files import read_json, write_json
from experiments.settings import to_plain
from vae_flows.errors import VAEFlowsError

__all__ = ["WorkerError", "run_task"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
"""OpenMP's, MKL's, and the one from which XLA takes the size of its pool."""

_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}
"""Has glibc keep what a step frees for the next. By default it gives large blocks back to the system, and each step
pays for pages again, the more the larger its gradients: no property of what is compared."""


class WorkerError(VAEFlowsError, RuntimeError):
    """A task of the comparison failed or took too long."""


def run_task(task: Mapping[str, Any], *, threads: int, seconds: float, cache: Path) -> Any:
    """Run a task in a new process and return its plain result.

    Arguments:
        task: `kind`, one of those that `perform` knows, and the arguments of that kind.
        threads: Threads of PyTorch and of XLA.
        seconds: After which the process is ended.
        cache: Folder in which JAX keeps what it compiled, so that a second process need not.

    Raises:
        WorkerError: The process failed or took too long; the message has the last line that it wrote.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        **({} if "memory" in task["kind"] else _KEEP_FREED_MEMORY),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        arguments = json.dumps({**task, "threads": threads}), str(path)
        command = [sys.executable, "-m", "experiments.speed.worker", *arguments]
        options: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "timeout": seconds}
        try:
            done = subprocess.run(command, **options, check=False)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"took more than {seconds:.0f} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
            raise WorkerError(lines[-1])
        return read_json(path)


def perform(task: Mapping[str, Any]) -> Any:
    """Perform a task in this process and return its result."""
    import torch

    from experiments.speed import measure, scaling, steps
    from experiments.speed.problems import find_size

    torch.set_num_threads(task["threads"])
    match task["kind"]:
        case "time":
            return measure.time_size(find_size(task["size"]), task["rounds"])
        case "memory":
            return measure.measure_memory(find_size(task["size"]), task["competitor"])
        case "steps time":
            return steps.measure_steps_time(find_size(task["size"]), task["steps"], rounds=task["rounds"])
        case "steps memory":
            return steps.measure_steps_memory(find_size(task["size"]), task["mode"], task["steps"])
        case "products":
            return scaling.measure_products(find_size(task["size"]), rounds=task["rounds"])
        case _:
            return scaling.measure_scaling(
                task["dim"], tuple(task["hidden_dims"]), batch=task["batch"], rounds=task["rounds"]
            )


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), to_plain(perform(json.loads(sys.argv[1]))))
