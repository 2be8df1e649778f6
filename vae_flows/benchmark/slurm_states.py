"""What SLURM says of jobs, and which of them are over."""

from __future__ import annotations

import time

from submitit.slurm.slurm import SlurmInfoWatcher

__all__ = ["StateWatcher"]

ALIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "READY")
PREEMPTED, UNKNOWN = "PREEMPTED", "UNKNOWN"
PREEMPTED_SECONDS = 60.0
"""How long a preempted job is waited for to be queued again, where SLURM does that."""
ASK_SECONDS = 60
"""Most between two calls of `sacct`, each of which asks for all jobs that are not over."""


class StateWatcher(SlurmInfoWatcher):
    """Asks for the states of jobs, now and then for all of them at once.

    submitit takes a suspended job for one that is over, though it goes on, and waits for a preempted one without end,
    though some clusters cancel such jobs.
    """

    def __init__(self) -> None:
        super().__init__(delay_s=ASK_SECONDS)
        self._preempted: dict[str, float] = {}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Tell whether a job is over, by its state or as one that was preempted and not queued again in time."""
        state = self.get_state(job_id, mode=mode).upper()
        if not state.startswith(PREEMPTED):
            self._preempted.pop(job_id, None)
            return not state.startswith((*ALIVE, UNKNOWN))
        since = self._preempted.setdefault(job_id, time.monotonic())
        if time.monotonic() - since < PREEMPTED_SECONDS:
            return False
        return mode == "cache" or self.get_state(job_id, mode="force").upper().startswith(PREEMPTED)

    def is_alive(self, job_id: str) -> bool:
        """Ask at once whether a job waits, runs, or may be queued again."""
        return self.get_state(job_id, mode="force").upper().startswith((*ALIVE, PREEMPTED))
