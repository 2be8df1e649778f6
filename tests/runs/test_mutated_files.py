"""Each entry of each JSON file of a run is replaced in turn: it is read, or told in the library's error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.benchmark.presets import PRESETS
from vae_flows.runs import evaluations
from vae_flows.runs.evaluations import evaluate_run
from vae_flows.runs.execution import execute
from vae_flows.runs.folder import prepare
from vae_flows.runs.settings import with_changes
from vae_flows.training import ComputeSettings, TrainingSettings, train

TINY = {"max_images": 60, "training.max_epochs": 1, "evaluation.importance_samples": 2, "compute.accelerator": "cpu"}
MISSING = object()
FEW: tuple[Any, ...] = (MISSING, None, 0, "x", [None])
ALL = (*FEW, True, -1, 1e308, 10**30, "../../x", "\0", [], {}, {"a": 1})
MEMBERS = 2  # of a list, which are alike


def _by_command(folder: Path) -> None:
    prepare(folder, with_changes(PRESETS["smoke"].settings("caltech101-silhouettes", "planar", 0), TINY))
    execute(folder)
    evaluate_run(folder, 2)


def _by_python(folder: Path) -> None:
    reseed(0)
    images = (torch.rand(20, 2, 2) < 0.5).numpy()
    data = vf.data.from_arrays(images, images[:5], images[:5])
    encoder, decoder = vf.networks.MLPEncoder((1, 2, 2), (4,), 4), vf.networks.MLPDecoder(2, (1, 2, 2), (4,))
    parts = encoder, decoder, vf.AmortizedPosterior(2, 4), vf.likelihoods.BernoulliLikelihood()
    settings = TrainingSettings(max_epochs=1, batch_size=10, warmup_epochs=1)
    train(vf.VAE(*parts), data, settings, folder=folder, compute=ComputeSettings("cpu"), progress=False)


MAKERS = {"command": _by_command, "python": _by_python}
FILES = {
    "settings.json": "command",
    "config.json": "command",
    "metrics.json": "command",
    "evaluation-2-samples.json": "command",
    "training.json": "python",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a run that was made in a way, once."""
    folders: dict[str, Path] = {}

    def make(way: str) -> Path:
        if way not in folders:
            folders[way] = tmp_path_factory.mktemp("runs") / way
            MAKERS[way](folders[way])
        return folders[way]

    return make


def _places(content: Any, outer: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content[:MEMBERS])
    for name, value in inner:
        yield (*outer, name)
        if isinstance(value, dict | list):
            yield from _places(value, (*outer, name))


def _replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def _read_all(folder: Path, name: str) -> None:
    run = vf.Run(folder)
    readers: tuple[Callable[[], object], ...] = (
        lambda: run.settings,
        lambda: run.status,
        lambda: run.history,
        lambda: run.metrics,
        lambda: run.evaluations,
        lambda: run.to_record(),
        lambda: str(vf.compare([run])),
    )
    for read in (*readers, run.load_model) if name == "config.json" else readers:
        with suppress(vf.VAEFlowsError):
            read()


@pytest.mark.parametrize("values", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize("name", FILES)
def test_an_entry_of_another_type_or_value_is_read_or_told(
    made: Callable[[str], Path], name: str, values: tuple[Any, ...]
) -> None:
    folder = made(FILES[name])
    path = folder / name
    whole = path.read_bytes()
    content, raw, tried = json.loads(whole), list[str](), 0
    try:
        for place in _places(content):
            for value in values:
                tried += 1
                path.write_text(json.dumps(_replaced(content, place, value)))
                try:
                    _read_all(folder, name)
                except Exception as error:
                    told = "missing" if value is MISSING else repr(value)
                    raw.append(f"{'.'.join(map(str, place))} {told}: {error!r}")
    finally:
        path.write_bytes(whole)
    assert not raw, "\n".join(raw[:20])
    assert tried > 50


def test_the_entries_are_those_of_the_whole_file(made: Callable[[str], Path]) -> None:
    """What is mutated holds what a run is told by: a walk that finds nothing would find no fault."""
    found = {
        ".".join(map(str, place)) for place in _places(json.loads((made("command") / "metrics.json").read_bytes()))
    }
    assert {"test.negative_elbo", "nats_per_unit", "parameters", "history.seconds.0"} <= found
    assert evaluations.find_evaluations(made("command"))
