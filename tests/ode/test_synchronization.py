"""A solve waits for the device once in a step that is tried, and a few times in all: each wait idles a GPU."""

from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.cnf import LayerUpdate, MLPDynamics

WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.masked_select.default,
}
START = 3
"""Of a solve: the three numbers from which the first step is guessed."""
END = 1
"""Whether the state at the end is finite."""
GPU = torch.cuda.is_available()


COPYING = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu}
"""Methods that make no operation of a tensor that is on the CPU already."""


class _Copies(TorchFunctionMode):
    """Counts the calls of methods that copy a tensor from its device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in COPYING
        return func(*args, **(kwargs or {}))


class _Waits(TorchDispatchMode):
    """Counts the operations that wait for a device, were the tensors on one; Python reads values by one of them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        moved = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("device") is not None
        by_mask = func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += func in WAITING or moved or by_mask
        return func(*args, **(kwargs or {}))


@contextmanager
def waits(device):
    """Give a function that returns how many waits there were so far."""
    if device == "cpu":
        with _Waits() as operations, _Copies() as copies:
            yield lambda: operations.count + copies.count
        return
    with catch_warnings(record=True) as caught:
        simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchroniz" in str(warning.message) for warning in caught)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not GPU, reason="needs a GPU"))])
def device(request):
    return request.param


def waits_of_a_solve(device, **settings):
    """Return the waits of the forward and of the backward pass of a solve, and its work."""
    reseed()
    dynamics = MLPDynamics(3, (8, 8)).to(device)
    updates = [LayerUpdate(torch.randn(5, width, device=device)) for width in dynamics.widths[1:]]
    field = (
        dynamics.condition(updates, (5,)).prepare(torch.Size([5])).with_probes(torch.randn(1, 5, 1, 3, device=device))
    )
    start, meter = torch.randn(5, 1, 3, device=device, requires_grad=True), vf.cnf.WorkMeter()
    with waits(device) as count:
        end, log_det = vf.ODESolver(**settings).solve(field, start, (0.0, 2.0), meter)
        forward = count()
        (end.sum() + log_det.sum()).backward()
        return forward, count() - forward, meter.read()


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
@pytest.mark.parametrize(
    "settings", [{}, {"fused": False}, {"gradient": "recompute"}, {"gradient": "adjoint"}, {"method": "bosh3"}], ids=str
)
def test_a_step_that_is_tried_waits_once(settings, tolerance, device):
    forward, backward, work = waits_of_a_solve(device, rtol=tolerance, atol=tolerance, **settings)
    assert forward == work.accepted_steps + work.rejected_steps + START + END
    if settings.get("gradient") == "adjoint":
        tried, rest = divmod(work.backward_evaluations - 2, 6)  # of dopri5, after the two that guess the first step
        assert rest == 0
        assert backward <= tried + START + 3  # the scale of the cotangent, and whether the path came back
    else:
        assert backward == 0
    assert work.accepted_steps >= (2 if tolerance < 1e-3 else 1)


@pytest.mark.parametrize("gradient", ["backprop", "recompute"])
def test_fixed_steps_do_not_wait(gradient, device):
    settings = {"method": "rk4", "options": {"step_size": 0.25}, "gradient": gradient}
    assert waits_of_a_solve(device, **settings)[:2] == (END, 0)


def test_waits_are_seen(device):
    x = torch.ones(3, device=device)
    waiting = [
        lambda: x.sum().item(),
        lambda: bool(x.any()),
        lambda: x[x > 0],
        lambda: x.nonzero(),
        lambda: x.tolist(),
        lambda: torch.equal(x, x),
    ]
    for number, operation in enumerate(waiting):
        with waits(device) as count:
            operation()
            assert count() >= 1, number
