"""Processes share work out and errors, here as threads that exchange what processes would."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from vae_flows.errors import IntegrationError, InvalidInputError, ProcessError
from vae_flows.processes import ALONE, Processes, is_main_process, start_processes

CPU = torch.device("cpu")
COUNT = 3


@dataclass
class Board:
    """Where threads leave what they tell each other."""

    told: dict[int, bytes] = field(default_factory=dict)
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(COUNT, timeout=30))


@dataclass(frozen=True)
class Threads(Processes):
    """Processes whose outcomes go by way of a board, pickled."""

    board: Board = field(default_factory=Board)

    def _exchanged(self, own: Any) -> list[Any]:
        self.board.told[self.rank] = pickle.dumps(own)
        self.board.barrier.wait()
        found = [pickle.loads(self.board.told[rank]) for rank in range(self.count)]
        self.board.barrier.wait()
        return found


def in_each(call: Callable[[Processes], Any]) -> list[Any]:
    """Return what a call gives or raises in each process."""

    def caught(processes: Processes) -> Any:
        try:
            return call(processes)
        except Exception as error:
            return error

    board = Board()
    with ThreadPoolExecutor(COUNT) as threads:
        return list(threads.map(caught, [Threads(rank, COUNT, board) for rank in range(COUNT)]))


def test_all_find_what_each_found():
    assert in_each(lambda own: own.together(lambda: own.rank**2)) == [[0, 1, 4]] * COUNT
    assert in_each(lambda own: own.by_first(lambda: f"by {own.rank}")) == ["by 0"] * COUNT


def test_what_one_raises_all_raise():
    def work(own: Processes) -> None:
        if own.rank == 1:
            raise IntegrationError("too stiff", t=0.5, step_size=1e-9, evaluations=7)

    for error in in_each(lambda own: own.together(lambda: work(own))):
        assert isinstance(error, IntegrationError)
        assert (str(error), error.t, error.evaluations) == ("too stiff", 0.5, 7)


def test_what_differs_among_processes_is_refused():
    assert in_each(lambda own: own.agreed("call", lambda: "same")) == ["same"] * COUNT
    for error in in_each(lambda own: own.agreed("call", lambda: own.rank == 1)):
        assert isinstance(error, InvalidInputError)
        assert "call: expected the same model, data and arguments in each process" in str(error)


class UnportableError(Exception):
    """An error that pickle cannot make anew."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(first)


def test_an_error_that_cannot_be_sent_is_told_in_words():
    def work(own: Processes) -> None:
        if own.rank == 2:
            raise UnportableError("odd", 2)

    *others, own = in_each(lambda own: own.together(lambda: work(own)))
    assert isinstance(own, UnportableError)
    for error in others:
        assert isinstance(error, ProcessError)
        assert "process 2: expected its share of the work, got an error (UnportableError: odd)" in str(error)


def test_each_raises_its_own_error_where_several_fail():
    def work(own: Processes) -> None:
        raise ValueError(f"in {own.rank}")

    assert [str(error) for error in in_each(lambda own: own.together(lambda: work(own)))] == ["in 0", "in 1", "in 2"]


class Lost(Processes):
    """Processes of which another has ended."""

    def _exchanged(self, own: Any) -> list[Any]:
        raise ProcessError("another process ended")


def test_an_own_error_comes_before_the_end_of_another_process():
    with pytest.raises(ProcessError, match="another process ended"):
        Lost(0, 2).together(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        Lost(0, 2).together(lambda: 1 / 0)


@pytest.mark.parametrize("parts", range(8))
def test_shares_are_all_parts_and_as_many_for_each(parts: int):
    dealt = [list(Processes(rank, COUNT).shares(range(parts))) for rank in range(COUNT)]
    assert len({len(share) for share in dealt}) == 1
    assert sorted(part for share in dealt for part in share if part is not None) == list(range(parts))


def test_one_process_is_alone():
    processes, device = start_processes("call", 1, CPU)
    assert processes == ALONE
    assert device == CPU
    assert is_main_process()
    with pytest.raises(ZeroDivisionError):
        processes.together(lambda: 1 / 0)


@pytest.mark.parametrize("wrong", [0, -1, 999])
def test_a_wrong_number_of_processes_starts_none(wrong: int):
    with pytest.raises(InvalidInputError, match="call devices: expected"):
        start_processes("call", wrong, CPU)


def test_devices_that_there_are_not_are_told():
    if torch.cuda.is_available():
        pytest.skip("there may be as many")
    with pytest.raises(InvalidInputError, match="call: expected what Lightning Fabric finds here"):
        start_processes("call", 2, torch.device("cuda"))
