"""One valid call of every public callable of `vae_flows.export`."""

from __future__ import annotations

from collections.abc import Callable

from tests.valid_calls.parts import folder, images, vae
from tests.wrong_values import ValidCall
from vae_flows.export import to_onnx, to_programs
from vae_flows.ode import ODESolver

__all__ = ["CALLS"]

CALLS: dict[str, Callable[[], ValidCall]] = {
    "export.to_programs": lambda: ValidCall(
        to_programs, {"vae": vae(), "examples": images(), "solver": ODESolver("rk4", options={"step_size": 0.5})}
    ),
    # A conversion takes seconds, and all but the folder goes to the one above.
    "export.to_onnx": lambda: ValidCall(
        to_onnx, {"vae": vae(), "folder": folder() / "onnx", "examples": images()}, leave=("vae", "examples")
    ),
}
