"""Wrong calls of every public callable end in the library's errors, if they do not work."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from pkgutil import ModuleInfo, iter_modules
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

import vae_flows
from tests.valid_calls import VALID
from tests.wrong_values import raw_errors
from vae_flows.benchmark import presets, published
from vae_flows.errors import MissingPackageError
from vae_flows.flows import registry
from vae_flows.likelihoods import registry as likelihoods
from vae_flows.persistence import configuration

# Modules of a package that exports nothing itself which are not for users.
INTERNAL = {
    f"vae_flows.benchmark.{name}"
    for name in ("forecast", "parent", "process", "ray_tasks", "slurm_jobs", "slurm_states")
}

# What rows need beside the library itself.
NEEDED = {
    "flows.ZukoFlow": "zuko",
    "flows.ZukoFlow.train": "zuko",
    "evaluation.diagnose_weights": "arviz_stats",
    "data.load of pictures": "PIL",
    "export.to_onnx": "onnxscript",
    "benchmark.RayEngine": "ray",
    "benchmark.SlurmEngine": "submitit",
    "benchmark.SlurmEngine.start": "submitit",
    "benchmark.SlurmEngine.submit": "submitit",
    "benchmark.SlurmEngine.find": "submitit",
}
INSTALLED = [name for name in VALID if name not in NEEDED or find_spec(NEEDED[name]) is not None]

# Results, which are made by the library and only read by others.
RECORDS = {
    "TrainingState",
    "ActiveUnits", "AggregateDraws", "Bound", "CalibrationResult", "DensityIntegral", "Draw", "DrawnFigure",
    "Draws", "ELBO",
    "EpochRecord", "LayerUpdate", "SolveProgress",
    "Estimate", "EvaluationResult", "ExportedVAE", "FlowPaths", "ImportanceBounds", "InferenceGap", "InformationResult",
    "LikelihoodProgress", "LikelihoodResult", "MeanEstimate", "Moments",
    "MonteCarloEstimate", "Networks", "OnnxFiles", "PairedDifference", "PosteriorGrid", "PosteriorSummary",
    "RankBand", "RankHistogram", "Ranking", "Reference", "Results", "RoundTripError", "RunExit", "RunHistory",
    "RunDiagnostics", "RunEvaluation", "RunMetrics", "RunOutcome", "RunScores", "ScoredSample", "Table", "TraceNoise",
    "TrainingResult", "TwoSampleResult", "WeightDiagnostics", "WorkCount", "WorkMeter",
}  # fmt: skip
# Base classes to be derived from.
EXTENDED = {
    "Callback",
    "AugmentedField", "ConditionedDynamics", "Dequantization", "Divergence", "Engine", "Examples", "FusedTransform",
    "GridMonitor", "Recorded", "Regularizer", "RunHandle", "VectorField",
}  # fmt: skip
# What derived classes write and the library calls, with arguments that it has made or checked itself.
HOOKS = {
    "on_epoch_end", "adopt", "exact", "renewed_by",
    "bases", "bind", "bottleneck_width", "building", "check_probes", "dependencies", "differentiates_by_hand",
    "draw_probes", "foreign_transform", "forward_evaluation", "forward_with_log_det", "forward_with_score",
    "inverse_evaluation", "inverse_with_log_det", "noise", "pack", "prepare", "rate", "scored_evaluation", "solve",
    "sources", "tensors", "unpack", "value", "value_and_trace", "with_bottleneck_probes", "with_probes", "with_trace",
}  # fmt: skip
# Without arguments of their own, or with those of another library; checked by their derived classes' rows; and what
# reads files, whose own tests damage those.
ELSEWHERE = {
    "activation", "extra_repr", "get_config", "to_record", "upgrade_config", "unbind", "push_to_hub",
    "Likelihood.forward",
    # Protocols, whose objects the library or a program makes.
    "Engine.start", "RunHandle.poll", "RunHandle.stop",
    # Within the block of a cluster; refused outside by the engine's own tests.
    "RayEngine.start", "RayEngine.has_begun", "RayEngine.release",
    # Of monitors, called by the grid.
    "started", "ended", "elsewhere", "running",
    "make_objective", "resolved_optimizer_options", "resolved_schedule_options", "start_schedule",
    "load_weights",
    # Called with a distribution that an objective has checked already.
    "exact_where_cheap", "for_nonlinear_bound", "is_estimated", "is_regularized",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files go to a folder of the test's own, and what a call registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    for module in (registry, likelihoods):
        monkeypatch.setattr(module, "_registered", dict(module._registered))
    monkeypatch.setattr(presets, "PRESETS", dict(presets.PRESETS))
    monkeypatch.setattr(published, "PUBLISHED", dict(published.PUBLISHED))
    for name in ("_registered", "_names"):
        monkeypatch.setattr(configuration, name, dict(getattr(configuration, name)))


def _public_modules() -> Iterator[ModuleType]:
    """Yield the package, what it offers, and its packages: themselves, or the modules of one that exports nothing."""
    yield vae_flows
    offered = {f"vae_flows.{name}" for name in dir(vae_flows) if inspect.ismodule(getattr(vae_flows, name))}
    for name in sorted(offered | {found.name for found in _modules_in(vae_flows) if found.ispkg}):
        module = importlib.import_module(name)
        if hasattr(module, "__all__"):
            yield module
        elif name in offered:
            inner = [found.name for found in _modules_in(module)]
            assert {other for other in INTERNAL if other.startswith(name)} <= set(inner)
            for other in inner:
                with suppress(MissingPackageError):  # of extras that are not installed, such as clusters
                    if other not in INTERNAL:
                        yield importlib.import_module(other)


def _modules_in(package: ModuleType) -> list[ModuleInfo]:
    return list(iter_modules(package.__path__, f"{package.__name__}."))


def _public_callables() -> Iterator[str]:
    """Yield the names of rows: the folder that defines a callable, or the module beside the folders, and its name."""
    for module in _public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{_home(value)}.{name}"
            elif inspect.isclass(value) and not issubclass(value, Exception):
                if name not in RECORDS | EXTENDED:
                    yield f"{_home(value)}.{name}"
                yield from _methods(value)


def _methods(cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(function) and not name.startswith("_"):
            yield f"{_home(cls)}.{cls.__name__}.{name}"


def _home(value: Any) -> str:
    return value.__module__.split(".")[1]


def _is_called_by_users(name: str) -> bool:
    _, *owner, method = name.split(".")
    is_hook_of_flow = method == "transform" and "".join(owner).endswith(("Flow", "FFJORD"))
    is_of_record = bool({*owner} & (RECORDS | {"AugmentedField", "GridMonitor"}))
    is_elsewhere = bool({".".join([*owner, method]), method} & ELSEWHERE)
    return not (is_elsewhere or method in HOOKS or is_hook_of_flow or is_of_record)


def test_every_public_callable_has_a_row() -> None:
    missing = {name for name in _public_callables() if _is_called_by_users(name)} - VALID.keys()
    assert not missing


# What is differentiated, in a program of one's own or by Pyro; whatever else returns tensors returns numbers alone.
DIFFERENTIATED = {
    "__call__", "evaluate", "evaluate_inverse", "evaluate_with_score", "forward", "guide", "importance_weighted_bound",
    "log_abs_det_jacobian", "log_likelihood", "renyi_bound",
}  # fmt: skip


@pytest.mark.parametrize("name", INSTALLED)
def test_the_valid_call_works(name: str) -> None:
    result = VALID[name]().run()
    if isinstance(result, Tensor) and name.rpartition(".")[2] not in DIFFERENTIATED:
        assert not result.requires_grad


@pytest.mark.parametrize("name", INSTALLED)
def test_wrong_calls_end_in_the_errors_of_the_library(name: str) -> None:
    found = raw_errors(VALID[name]())
    assert not found, "\n".join(found)
