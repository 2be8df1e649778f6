"""Values of the examples that an evaluation has finished, in a small file from which it goes on after a kill."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vae_flows.errors import CheckpointError, complaint
from vae_flows.persistence.descriptions import describe_model
from vae_flows.persistence.files import exclusive, read_file, sweep, written_whole
from vae_flows.processes import ALONE, Processes

__all__ = ["FinishedValues", "count_finished", "digest_of_examples", "digest_of_model", "finished_values"]

SECONDS_BETWEEN_WRITES = 5.0
REMEDY = "Give another folder, or delete the file to begin anew."


class FinishedValues:
    """Named numbers of each example, NaN where they are not known yet, and the file that they are kept in.

    Arguments:
        values: float64 tensors `(N, …)` by name.
        digests: What each finished example was, integers `(N,)`.
        done: Which examples are finished, booleans `(N,)`.
        seconds: Time that the finished ones took.
        key: What the values depend on beside the examples.
        path: The file, `None` for none.
        writes: Whether this process writes it; of several that share the work one does.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        digests: Tensor,
        done: Tensor,
        seconds: float,
        key: str,
        path: Path | None,
        *,
        writes: bool = True,
    ) -> None:
        self.values = dict(values)
        self.done = done
        self.seconds = seconds
        self.writes = writes
        self._digests = digests
        self._key = key
        self._path = path
        self._written = perf_counter()

    def holds(self, indices: Tensor, digests: Tensor) -> bool:
        """Return whether all these examples are finished.

        Raises:
            CheckpointError: They were other examples.
        """
        if not bool(self.done[indices].all()):
            return False
        if not torch.equal(self._digests[indices], digests):
            got = f"others at positions {int(indices[0])} to {int(indices[-1])}"
            raise CheckpointError(complaint(f"{self._path}", "values of the same examples", got, REMEDY))
        return True

    def put(self, indices: Tensor, digests: Tensor, values: Mapping[str, Tensor]) -> None:
        """Take the values of further examples."""
        for name, entries in values.items():
            self.values[name][indices] = entries.double()
        self._digests[indices], self.done[indices] = digests, True

    def took(self, seconds: float) -> None:
        """Add the time that they took, and write them all from time to time."""
        self.seconds += seconds
        if perf_counter() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is finished, in whole."""
        if self._path is None or not self.writes:
            return
        content = {
            **{f"values.{name}": tensor.contiguous() for name, tensor in self.values.items()},
            "digests": self._digests,
            "done": self.done.to(torch.uint8),
            "seconds": torch.tensor([self.seconds], dtype=torch.float64),
            "key": torch.tensor(list(self._key.encode()), dtype=torch.uint8),
        }
        content["checksum"] = _checksum(content)  # the format has none, and another number would pass unnoticed
        with written_whole(self._path) as file:
            file.write(safetensors.torch.save(content))
        self._written = perf_counter()


@contextmanager
def finished_values(
    path: Path | None,
    count: int,
    shapes: Mapping[str, tuple[int, ...]],
    key: str,
    processes: Processes = ALONE,
) -> Iterator[FinishedValues]:
    """Open the values of an evaluation, those that the file holds among them, and write them at the end, come what may.

    Arguments:
        path: The file, `None` to keep nothing; its folder belongs to this process meanwhile.
        count: Examples, N.
        shapes: Names of the values and the shape of those of one example.
        key: What the values depend on beside the examples.
        processes: Those that share the work: the first one reads and writes the file, and all begin with what it holds.

    Raises:
        CheckpointError: The file is damaged, or belongs to another model or other settings.
        FolderInUseError: Another process works in the folder.
    """
    with ExitStack() as stack:

        def opened() -> FinishedValues:
            if path is not None:
                stack.enter_context(exclusive(path.parent))
                sweep(path.parent)
                if path.exists():
                    return _read(path, count, shapes, key)
            return _none_yet(path, count, shapes, key)

        values = processes.by_first(opened)
        values.writes = processes.is_first
        try:
            yield values
        finally:
            values.write()


def count_finished(path: Path) -> tuple[int, int]:
    """Return how many examples of an evaluation that was left are finished, and of how many.

    Raises:
        CheckpointError: The file is damaged.
    """
    done = _load(path, "done")["done"].bool()
    return int(done.sum()), len(done)


def digest_of_model(model: nn.Module, *settings: object) -> str:
    """Return a digest of a model's weights, of its whole configuration, and of settings.

    What neither the configuration of a part tells (see `describe_model`) nor what it prints is not seen: such as plain
    attributes of modules of one's own.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> before = digest_of_model(layer, 1)
        >>> before == digest_of_model(layer, 1), before == digest_of_model(layer, 2)
        (True, False)
        >>> _ = layer.weight.data.add_(1)
        >>> before == digest_of_model(layer, 1)
        False
    """
    printed = re.sub(r" at 0x[0-9a-f]+", "", repr(model))  # a place in memory is another in each process
    found = hashlib.blake2b(repr((printed, describe_model(model), *settings)).encode(), digest_size=16)
    _update(found, {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)})
    return found.hexdigest()


def digest_of_examples(x: Tensor) -> Tensor:
    """Return a digest of each example of a batch, integers `(B,)`.

    Example:
        >>> first, second, third = digest_of_examples(torch.tensor([[0.0], [1.0], [0.0]]))
        >>> bool(first == third), bool(first == second)
        (True, False)
    """
    digests = [hashlib.blake2b(_bytes_of(example), digest_size=8).digest() for example in x.detach().cpu()]
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _none_yet(path: Path | None, count: int, shapes: Mapping[str, tuple[int, ...]], key: str) -> FinishedValues:
    empty = {name: torch.full((count, *shape), torch.nan, dtype=torch.float64) for name, shape in shapes.items()}
    digests, done = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    return FinishedValues(empty, digests, done, 0.0, key, path)


def _read(path: Path, count: int, shapes: Mapping[str, tuple[int, ...]], key: str) -> FinishedValues:
    names = {f"values.{name}" for name in shapes}
    content = _load(path, *names, "key", "digests", "done", "seconds")
    values = {name: content[f"values.{name}"] for name in shapes}
    digests, done = content["digests"], content["done"].bool()
    fits = all(values[name].shape == (count, *shape) for name, shape in shapes.items())
    same = bytes(content["key"].tolist()) == key.encode()
    if not (same and fits and digests.shape == done.shape == (count,)):
        expected, got = "values of the same model, examples and settings", "those of others"
        raise CheckpointError(complaint(f"{path}", expected, got, REMEDY))
    return FinishedValues(values, digests, done, content["seconds"].item(), key, path)


def _load(path: Path, *names: str) -> dict[str, Tensor]:
    """Return what `FinishedValues.write` wrote, with these names among the others."""
    try:
        content = safetensors.torch.load(read_file(path))
        written = content.pop("checksum")
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damage(path, type(error).__name__) from error
    if not torch.equal(written, _checksum(content)):
        raise _damage(path, "another checksum")
    if not content.keys() >= set(names):
        raise _damage(path, f"{', '.join(content)} alone")
    return content


def _checksum(content: Mapping[str, Tensor]) -> Tensor:
    found = hashlib.blake2b(digest_size=16)
    _update(found, content)
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)


def _update(found: hashlib.blake2b, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(_bytes_of(tensor))


def _damage(path: Path, got: str) -> CheckpointError:
    return CheckpointError(complaint(f"{path}", "values of an evaluation", f"damage ({got})", REMEDY))
