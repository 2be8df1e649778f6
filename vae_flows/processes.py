"""Processes that share work: started by Lightning Fabric, one for each device, and what they tell each other."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from vae_flows.errors import InvalidInputError, ProcessError, complaint, require_positive
from vae_flows.extras import needing

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ALONE", "Processes", "is_main_process", "launch", "make_fabric", "start_processes"]

STARTER = "VAE_FLOWS_STARTER"
"""The variable of the environment by which a process knows the one that started it."""
SECONDS_BETWEEN_LOOKS = 0.5
PATIENCE = timedelta(days=7)
_BROKEN = re.compile(r"gloo|nccl|connection (closed|reset|refused)|process group", re.IGNORECASE)
"""What torch says where a connection to another process is lost."""
_left = False
Part = TypeVar("Part")
Result = TypeVar("Result")


class _Outcome(NamedTuple):
    """What became of the work of one process."""

    result: Any
    error: Exception | None


@dataclass(frozen=True)
class Processes:
    """Processes that work on one thing together, as one of them sees them.

    Arguments:
        rank: Which one this is, from 0; the first one writes and tells.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def shares(self, parts: Sequence[Part]) -> Iterator[Part | None]:
        """Deal parts of a work out: yield those of this process, and `None` where only others still have one.

        Example:
            >>> [list(Processes(rank, 2).shares("abc")) for rank in range(2)]
            [['a', 'c'], ['b', None]]
        """
        for start in range(0, len(parts), self.count):
            place = start + self.rank
            yield parts[place] if place < len(parts) else None

    def together(self, work: Callable[[], Result]) -> list[Result]:
        """Do work in every process, and give what each found to all of them, by rank.

        All processes have to call this. What one raises, all raise, so that none waits for it.

        Raises:
            ProcessError: Another process ended meanwhile.

        Example:
            >>> ALONE.together(lambda: 3)
            [3]
        """
        if self.count == 1:
            return [work()]
        try:
            own = _Outcome(work(), None)
        except Exception as error:
            own = _Outcome(None, error)
        try:
            outcomes = self._exchanged(own._replace(error=_portable(own.error, self.rank)))
        except ProcessError:
            if own.error is not None:
                raise own.error from None
            raise
        failures = [outcome.error for outcome in (own, *outcomes) if outcome.error is not None]
        if failures:
            raise failures[0]
        return [outcome.result for outcome in outcomes]

    def each(self, work: Callable[[], Result]) -> Result:
        """Do work in every process, and return what it found there; what one raises, all raise.

        Example:
            >>> ALONE.each(lambda: 3)
            3
        """
        found: list[Result] = []
        self.together(lambda: found.append(work()))
        return found[0]

    def by_first(self, work: Callable[[], Result]) -> Result:
        """Do work in the first process alone, and give what it found to all of them, as `together` does."""
        return self.together(lambda: [work()] if self.is_first else [])[0][0]

    def agreed(self, owner: str, make: Callable[[], Result]) -> Result:
        """Return what each process makes of its model, data and arguments, which has to be the same in all.

        Raises:
            InvalidInputError: It is not.
        """
        made = self.together(make)
        if any(other != made[0] for other in made):
            expected, remedy = "the same model, data and arguments in each process", "Make them of one seed or file."
            raise InvalidInputError(complaint(owner, expected, "different ones", remedy))
        return made[0]

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Enclose work in which processes wait for each other, such as a backward pass that sums gradients.

        One that fails in it cannot tell the others: its connections are closed, so that none waits for it, and later
        work in several processes is refused.

        Raises:
            ProcessError: Another process ended, or failed in its own.

        Example:
            >>> with ALONE.exchange():
            ...     print("nobody waits")
            nobody waits
        """
        if self.count == 1:
            yield
            return
        try:
            yield
        except Exception as error:
            _leave_the_others()
            if isinstance(error, RuntimeError) and _BROKEN.search(str(error)):
                raise self._ended(error) from error
            raise

    def _exchanged(self, own: _Outcome) -> list[_Outcome]:
        outcomes: list[Any] = [None] * self.count
        try:
            torch.distributed.all_gather_object(outcomes, own, group=_patient_group())
        except RuntimeError as error:
            raise self._ended(error) from error
        return outcomes

    def _ended(self, error: RuntimeError) -> ProcessError:
        got, told = "one that ended or does not answer", next(iter(str(error).splitlines()), "")
        remedy = "Its own message tells why, where it had the time; what is finished is kept."
        return ProcessError(complaint("processes", f"{self.count} at work", f"{got} ({told})", remedy))


@cache
def _patient_group() -> Any:
    """Return all processes as a group that waits for long work; one that ends is noticed all the same."""
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


ALONE = Processes()
"""One process, which shares its work with no other."""


def is_main_process() -> bool:
    """Tell whether this is the process that the user started; the launcher of parallel work numbers the others."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def start_processes(owner: str, devices: int, device: torch.device) -> tuple[Processes, torch.device]:
    """Start the program once more for each further device, unless it runs in so many processes already.

    Arguments:
        owner: Whose argument `devices` is.
        devices: How many processes, with one device each.
        device: A device of their kind.

    Returns:
        The processes, and the device of this one: of a single process the one given.

    Raises:
        InvalidInputError: There are fewer devices, or the program runs in another number of processes.
    """
    require_positive(owner, devices=devices)
    if devices == 1:
        return ALONE, device
    fabric = make_fabric(owner, accelerator=device.type, devices=devices, strategy="ddp")
    launch(fabric)
    return Processes(fabric.global_rank, fabric.world_size), fabric.device


def make_fabric(owner: str, **options: Any) -> Fabric:
    """Make a Fabric that has still to be launched.

    Arguments:
        owner: Whose argument `devices` is.
        **options: Those of Fabric, with `devices`, the number of processes.

    Raises:
        InvalidInputError: Fabric cannot provide them, the CPU has fewer processors (two processes are let pass on any,
            to try them), or the program runs in another number of processes already.
    """
    with needing("train"):  # imported here because importing it sets up logging, and takes seconds
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*AMP with fp16 is not supported on CPU")
            fabric = Fabric(**options)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise InvalidInputError(complaint(owner, "what Lightning Fabric finds here", given, str(error))) from error
    _require_processes(f"{owner} devices", options["devices"], fabric.device)
    return fabric


def launch(fabric: Fabric) -> None:
    """Start the program once more for each further device, or join the others if this process was started so.

    While it waits for the others it ends with the process that started it, which may be killed before they have met;
    later the end of a connection tells. Programs that either starts later have another starter.
    """
    if fabric.world_size > 1:
        _end_in_order()
    if is_main_process():
        os.environ[STARTER] = str(os.getpid())
        try:
            fabric.launch()
        finally:
            del os.environ[STARTER]
        return
    starter, met = os.environ.pop(STARTER, None), threading.Event()
    if starter is not None:
        threading.Thread(target=_watch_over, args=(starter, met), name="starter", daemon=True).start()
    try:
        fabric.launch()
    finally:
        met.set()


@cache
def _end_in_order() -> None:
    """End the threads of gloo while Python still runs.

    Those that then give up what belongs to Python would end the program with SIGABRT, now and then.
    """

    def end() -> None:
        _patient_group.cache_clear()
        gc.collect()  # of data-parallel modules, which hold the groups
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(end)


def _watch_over(starter: str, met: threading.Event) -> None:
    while not met.wait(SECONDS_BETWEEN_LOOKS):
        if str(os.getppid()) != starter:
            os._exit(1)


def _leave_the_others() -> None:
    global _left
    _left = True
    with suppress(RuntimeError, ValueError, AssertionError):
        torch.distributed.destroy_process_group()


def _require_processes(subject: str, count: int, device: torch.device) -> None:
    if count > 1 and _left:
        remedy = "Start the program anew, or use devices=1."
        raise ProcessError(complaint(subject, "processes at work together", "some that a failure has parted", remedy))
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    running = torch.distributed.get_world_size() if distributed else None
    if count > 1 and running not in (None, count):
        remedy = "The first call that asks for several processes decides for the program."
        raise InvalidInputError(complaint(subject, f"1 or {running}, the processes that run", count, remedy))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(processors, 2)
    if device.type == "cpu" and count > most:
        remedy = "Fewer processes with more threads each are as fast."
        raise InvalidInputError(complaint(subject, f"at most {most} on this CPU", count, remedy))


def _portable(error: Exception | None, rank: int) -> Exception | None:
    """Return an error as another process can raise it: itself where it can be pickled, else its words."""
    if error is None:
        return None
    told = f"{type(error).__name__}: {error}"
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ProcessError(complaint(f"process {rank}", "its share of the work", f"an error ({told})"))
    return error
