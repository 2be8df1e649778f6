"""A call in a process of its own, with its number of threads: nothing that ran before counts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import torch

from vae_flows.errors import VAEFlowsError

__all__ = ["WorkerError", "call_apart"]

Result = TypeVar("Result")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
"""OpenMP's, MKL's, and the one from which XLA takes the size of its pool."""

_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1)}
"""Has glibc keep what a step frees for the next. By default it gives large blocks back to the system, and each step
pays for pages again, the more the larger its gradients: no property of what is compared."""


class WorkerError(VAEFlowsError, RuntimeError):
    """A call of the comparison failed or took too long."""


def call_apart(
    call: Callable[[], Result],
    *,
    threads: int,
    seconds: float,
    cache: Path,
    device: str = "cpu",
    keep_freed_memory: bool = True,
) -> Result:
    """Make a call in a new process and return its result.

    Arguments:
        call: A function of a module, its arguments bound by `functools.partial`.
        threads: Threads of PyTorch and of XLA.
        seconds: After which the process is ended.
        cache: Folder in which JAX and PyTorch keep what they compiled, so that a second process need not.
        device: On which PyTorch makes tensors.
        keep_freed_memory: Whether what a step frees stays with the process; not where memory is measured.

    Raises:
        WorkerError: The process failed or took too long; the message has its error.
    """
    environment = {
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        **(_KEEP_FREED_MEMORY if keep_freed_memory else {}),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(call, threads, device, sender))
    with patch.dict(os.environ, environment):
        process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise WorkerError(f"took more than {seconds:.0f} s")
        result = receiver.recv()
    except EOFError:
        process.join()
        raise WorkerError(f"ended with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(result, WorkerError):
        raise result
    return result


def _answer(call: Callable[[], object], threads: int, device: str, sender: Connection) -> None:
    torch.set_num_threads(threads)
    if device != "cpu":  # a default device costs time in every call of PyTorch
        torch.set_default_device(device)
    try:
        sender.send(call())
    except Exception as error:
        sender.send(WorkerError(f"{type(error).__name__}: {error}"))
