"""Small clusters of Ray on this machine, of which nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OBJECT_STORE = 80 * 2**20
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # other programs of this machine are no reason to end runs
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class SmallCluster:
    """A head without processors, where the driver is, and nodes of one processor each.

    Arguments:
        cluster: Ray's own cluster of one machine.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        """What drivers connect to."""
        return self._cluster.address

    def grow(self, count: int) -> None:
        """Have that many nodes."""
        while len(self.nodes) < count:
            self.nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE))

    def kill_node_of(self, process: int) -> None:
        """Kill the node below which a process is, as a loss of power does."""
        above = set(ancestors(process))
        (node,) = [node for node in self.nodes if node.all_processes["raylet"][0].process.pid in above]
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def open_cluster() -> Iterator[SmallCluster]:
    """Start a cluster, and end it with all its processes and files."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'vae-flows[ray]'")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # whose sockets need short names
    temporary = Path(folder, "ray")  # where Ray leaves the address, which this machine's own cluster shall keep
    temporary.mkdir()
    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE, "include_dashboard": False, "temp_dir": str(temporary)}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**ENVIRONMENT, "RAY_TMPDIR": folder}.items():
                patch.setenv(name, value)
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                yield SmallCluster(cluster)
            finally:
                ray.shutdown()
                cluster.shutdown()
    finally:
        for process in processes_with(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def processes_with(text: str) -> list[int]:
    """Return the processes whose command line holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def ancestors(process: int) -> Iterator[int]:
    """Return the process, its parent, and so on."""
    while process > 1:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
