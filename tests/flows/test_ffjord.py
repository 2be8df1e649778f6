from pathlib import Path

import numpy as np
import pytest
import torch

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, LayerUpdate, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import FFJORD

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {"bias_softplus": "softplus", "low_rank_softplus": "softplus", "low_rank_tanh": "tanh"}
SOLVER = 1e-7  # what is left of values solved at tolerance 1e-11, after the growth of errors
# The stored gradients come from a continuous adjoint. Central differences of the stored problem, and both gradient
# methods here, agree with each other to DIFFERENCES; the stored gradients are this far from all three.
STORED_ADJOINT = 1e-3
DIFFERENCES = 1e-8  # of the gradient's length: a slope itself may be as small as chance has it


class Golden:
    """One golden file: dynamics and updates with its parameters, and its loss."""

    def __init__(self, name, gradient="backprop", tolerance=1e-11):
        with np.load(GOLDEN / f"ffjord_{name}.npz") as file:
            self.arrays = {key: torch.as_tensor(file[key]) for key in file.files}
        self.dynamics = MLPDynamics(8, (12, 10), activation=FILES[name]).double()
        self.solver = ODESolver(rtol=tolerance, atol=tolerance, gradient=gradient)
        with torch.no_grad():
            for index, layer in enumerate(self.dynamics.layers):
                weight = self.arrays[f"theta_{index}_weight"]
                layer.time_weight.copy_(weight[:, 0])
                layer.weight.copy_(weight[:, 1:])
                layer.bias.copy_(self.arrays[f"theta_{index}_bias"])
        self.updates = [
            LayerUpdate(*(self._leaf(f"{letter}_{index}") for letter in ("b", "U", "V"))) for index in range(3)
        ]

    def _leaf(self, key):
        return self.arrays[key].clone().requires_grad_() if key in self.arrays else None

    def transform(self, divergence="hutchinson"):
        return ContinuousTransform(
            self.dynamics.condition(self.updates, (6,)),
            integration_time=float(self.arrays["T"]),
            divergence=divergence,
            probes=self.arrays["noise"][None] if divergence == "hutchinson" else None,
            solver=self.solver,
        )

    def loss(self, z0):
        z1, log_det = self.transform().forward_with_log_det(z0)
        return (self.arrays["cz"] * z1).sum() - 2 * log_det.sum()

    def amortized(self):
        """The updates in the order of the golden file's flat vector: U, V, b of each layer."""
        found = [part for update in self.updates for part in (update.left, update.right, update.bias)]
        return [tensor for tensor in found if tensor is not None]


@pytest.mark.parametrize("name", FILES)
def test_values_agree_with_the_published_code(name):
    golden = Golden(name)
    z0 = golden.arrays["z0"]
    for divergence in ("hutchinson", "exact"):
        z1, log_det = golden.transform(divergence).forward_with_log_det(z0)
        torch.testing.assert_close(z1, golden.arrays["z1"], rtol=0, atol=SOLVER)
        torch.testing.assert_close(-log_det, golden.arrays[f"delta_logp_{divergence}"], rtol=0, atol=SOLVER)
    back, log_det_back = golden.transform("exact").inverse_with_log_det(golden.arrays["z1"])
    torch.testing.assert_close(back, z0, rtol=0, atol=SOLVER)
    torch.testing.assert_close(-log_det_back, golden.arrays["delta_logp_exact"], rtol=0, atol=SOLVER)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
def test_gradients_agree_with_the_published_code_and_with_differences(name, gradient):
    golden = Golden(name, gradient)
    z0 = golden.arrays["z0"].clone().requires_grad_()
    golden.loss(z0).backward()
    assert z0.grad is not None
    pairs = [(z0.grad, golden.arrays["grad_z0"])]
    pairs.append((torch.cat([p.grad.flatten(1) for p in golden.amortized()], 1), golden.arrays["grad_amortized"]))
    for index, layer in enumerate(golden.dynamics.layers):
        weight = torch.cat([layer.time_weight.grad[:, None], layer.weight.grad], 1)
        pairs.append((weight, golden.arrays[f"grad_theta_{index}_weight"]))
        pairs.append((layer.bias.grad, golden.arrays[f"grad_theta_{index}_bias"]))
    for got, stored in pairs:
        torch.testing.assert_close(got, stored, rtol=0, atol=STORED_ADJOINT)

    reseed()
    tensors = [z0, *golden.amortized(), *golden.dynamics.parameters()]
    directions = [torch.randn_like(tensor) for tensor in tensors]
    expected = sum((tensor.grad * direction).sum() for tensor, direction in zip(tensors, directions, strict=True))

    def loss_at(step):
        with torch.no_grad():
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor.add_(direction, alpha=step)
            value = golden.loss(z0)
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor.sub_(direction, alpha=step)
        return value

    step = 1e-4  # five-point stencil: its own error is of order step⁴, that of the solves of order 1/step
    slope = (8 * (loss_at(step) - loss_at(-step)) - (loss_at(2 * step) - loss_at(-2 * step))) / (12 * step)
    length = torch.cat([tensor.grad.flatten() for tensor in tensors]).norm()
    torch.testing.assert_close(slope, expected, rtol=0, atol=DIFFERENCES * float(length))


def test_train_estimates_and_eval_is_exact():
    flow = FFJORD(4, 6, hidden_dims=(8,), rank=2)
    context, z = torch.randn(5, 6), torch.randn(5, 4)

    def log_dets():
        with torch.no_grad():
            return [flow(context).forward_with_log_det(z)[1] for _ in range(2)]

    first, second = log_dets()
    assert not torch.equal(first, second)
    flow.eval()
    first, second = log_dets()
    assert torch.equal(first, second)


def test_a_fresh_flow_does_not_depend_on_the_context():
    flow = FFJORD(3, 6, hidden_dims=(8, 8), rank=2).eval()
    z = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.equal(flow(torch.randn(5, 6))(z), flow(torch.zeros(5, 6))(z))


def test_work_of_all_blocks_is_counted():
    flow = FFJORD(3, 6, hidden_dims=(8,), rank=2, num_blocks=2, solver=ODESolver(gradient="adjoint"))
    assert flow.last_solve is None
    z, log_det = flow(torch.randn(5, 6)).forward_with_log_det(torch.randn(5, 3))
    work = flow.last_solve
    assert work is not None
    assert work.forward_evaluations >= 2 * 7
    assert work.backward_evaluations == 0
    (z.sum() + log_det.sum()).backward()
    work = flow.last_solve
    assert work is not None
    assert work.backward_evaluations >= 2 * 7


def test_settings_are_checked():
    with pytest.raises(InvalidInputError, match="num_blocks"):
        FFJORD(3, 6, num_blocks=0)
    with pytest.raises(InvalidInputError, match="integration_time"):
        FFJORD(3, 6, integration_time=-1.0)
    with pytest.raises(UnknownNameError, match="amortization"):
        FFJORD(3, 6, amortization="lowrank")


def test_evaluation_can_be_tighter_than_training():
    flow = FFJORD(
        3,
        6,
        hidden_dims=(8,),
        rank=2,
        solver=ODESolver(rtol=1e-2, atol=1e-2),
        eval_solver=ODESolver(rtol=1e-8, atol=1e-8),
    )
    work = []
    for training in (True, False):
        flow.train(training)(torch.randn(5, 6))(torch.randn(5, 3))
        work.append(flow.last_solve.forward_evaluations)
    assert work[1] > work[0]


def test_end_time_is_random_in_training_alone():
    flow = FFJORD(3, 6, hidden_dims=(8,), rank=2, end_time_jitter=0.2)
    times = [flow(torch.randn(5, 6)).integration_time for _ in range(200)]
    assert 0.3 < min(times) < 0.35
    assert 0.65 < max(times) < 0.7
    assert flow.eval()(torch.randn(5, 6)).integration_time == 0.5
    with pytest.raises(InvalidInputError, match="end_time_jitter"):
        FFJORD(3, 6, end_time_jitter=0.5)


def test_end_time_can_be_learned():
    reseed()
    flow = FFJORD(3, 6, hidden_dims=(8,), rank=2, num_blocks=2, train_integration_time=True, end_time_jitter=0.1)
    z, log_det = flow(torch.randn(5, 6)).forward_with_log_det(torch.randn(5, 3))
    (z.sum() + log_det.sum()).backward()
    assert flow.cnf.log_integration_time is not None
    assert (flow.cnf.log_integration_time.grad != 0).all()
    assert "cnf.log_integration_time" not in FFJORD(3, 6).state_dict()


@pytest.mark.parametrize("amortization", ["concat", "bias", "low_rank", "last_layer", "hyper"])
def test_a_fresh_flow_moves_latents_alike_and_little_whatever_the_size_of_the_context(amortization):
    reseed()
    rank = 5 if amortization == "low_rank" else None
    flow = FFJORD(16, 32, hidden_dims=(64, 64), amortization=amortization, rank=rank).eval()
    z, h = torch.randn(20, 16), torch.randn(20, 32)
    moved = [(flow(scale * h)(z) - z).detach() for scale in (0.0, 1.0, 1e3)]
    for values in moved[1:]:
        torch.testing.assert_close(values, moved[0], rtol=0, atol=1e-5)  # the rounding of single precision
    assert float(moved[0].square().mean().sqrt()) < 0.3  # of latents whose root mean square is 1
