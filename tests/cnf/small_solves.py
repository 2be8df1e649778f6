"""A small solve and its gradients, for tests of everything that differentiates solves."""

import torch

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, LayerUpdate, MLPDynamics


def problem(hidden_dims=(7, 6), amortized="low_rank", activation="softplus", time_conditioning="concat"):
    reseed()
    dynamics = MLPDynamics(3, hidden_dims, activation=activation, time_conditioning=time_conditioning).double()
    updates = [
        LayerUpdate(
            torch.randn(4, fan_out).double() / 2,
            torch.randn(4, fan_in, 2).double() / 2 if amortized == "low_rank" else None,
            torch.randn(4, 2, fan_out).double() / 2 if amortized == "low_rank" else None,
        )
        for fan_in, fan_out in zip(dynamics.widths[:-1], dynamics.widths[1:], strict=True)
    ]
    return dynamics, (updates if amortized != "none" else None)


def gradients(dynamics, updates, z, solver, **options):
    reseed(1)
    leaves = [z, *(tensor for update in updates or () for tensor in update.tensors())]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    z, *rest = leaves
    if updates is not None:
        pieces = iter(rest)
        updates = [LayerUpdate(*(None if part is None else next(pieces) for part in update)) for update in updates]
    transform = ContinuousTransform(
        dynamics.condition(updates, () if updates is None else (4,)), solver=solver, integration_time=0.7, **options
    )
    y, log_det = transform.forward_with_log_det(z)
    weights = torch.randn_like(y), torch.randn_like(log_det)
    loss = (y.sin() * weights[0]).sum() + (log_det.cos() * weights[1]).sum()
    return torch.autograd.grad(loss, [*leaves, *dynamics.parameters()]), transform.last_solve
