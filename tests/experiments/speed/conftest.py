"""A comparison made by hand: what a run would find, without a run."""

import pytest

from experiments.speed.competitors.roster import BASELINE, DIFFRAX, EXACT, MODES, PUBLISHED, ZUKO
from experiments.speed.one_evaluation import METHODS
from experiments.speed.problems import SIZES
from experiments.speed.speed_records import Comparison, Measurement, Products, ScalingPoint, SizeResult, StepsPoint


def _result(size: str) -> SizeResult:
    errors = {"end": 1e-6, "log_det": 2e-6, "context": 3e-6, "shared": 4e-6}
    work = {"forward_evaluations": 26, "backward_evaluations": 0, "errors": errors}
    memory = {"step_bytes": 400_000_000, "process_bytes": 900_000_000}
    return SizeResult(
        size,
        (
            Measurement(BASELINE, seconds=(0.1, 0.2, 0.1), **work, **memory),
            Measurement(EXACT, seconds=(0.11, 0.22, 0.11), **work, **memory),
            Measurement(PUBLISHED, seconds=(5.0, 8.0), **work, step_bytes=2_000_000_000, process_bytes=3_000_000_000),
            Measurement(ZUKO, seconds=(0.3, 0.6, 0.2), forward_evaluations=21, backward_evaluations=12),
            Measurement(DIFFRAX, "not installed: jax, diffrax"),
        ),
        multiply_adds=10**9,
        rates=(2e10, 1e10, 4e10),
    )


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(
        settings={
            "tolerance": 1e-5,
            "threads": 2,
            "scaling": {"batch": 32, "hidden_dims": (512, 512), "threads": 1},
            "steps": {"size": "512-512 bias", "method": "rk4"},
        },
        versions={"torch": "2", "diffrax": None},
        hardware={"processor": "A processor"},
        commit={"commit": "abc", "dirty": False},
        sizes=tuple(_result(size.name) for size in SIZES),
        steps=tuple(
            StepsPoint(mode, count, 1e-3 * count, 10_000_000 + 500_000 * count * number)
            for number, mode in enumerate(MODES)
            for count in (4, 64)
        ),
        scaling=tuple(
            ScalingPoint(method, dim, 1e-3, 1e-6 * dim**power)
            for power, method in enumerate(METHODS)
            for dim in (128, 256, 512)
        ),
        products=Products("512-512 bias", 1e-3, {"vector-Jacobian product": 2.0}),
    )
