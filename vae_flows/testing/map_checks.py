"""Checks of the map: inverse, log-determinant, gradients, shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vae_flows.flows.base import AmortizedFlow
from vae_flows.testing.contract import BATCH, FlowContract, contract_check, expect, expect_close, expect_shape
from vae_flows.transforms.base import FusedTransform

GRADIENT_TOLERANCE = 2e-2  # of central differences along the gradient and off it, as a part of its length
BROADCAST_PAIRS = (
    ((BATCH,), (7, BATCH)),
    ((1,), (BATCH,)),
    ((BATCH,), (1,)),
    ((BATCH,), ()),
    ((), (7, BATCH)),
    ((2, 1), (3,)),
)


@contract_check
def transforms_are_pyros(contract: FlowContract) -> None:
    """A flow gives a `FusedTransform` of real vectors that is one to one, by `condition` and by a call."""
    flow, context = contract.flow(), contract.context(BATCH)
    for transform in (flow(context), flow.condition(context)):
        expect(isinstance(transform, FusedTransform), "transform", "a FusedTransform", type(transform).__name__)
        events = (transform.domain.event_dim, transform.codomain.event_dim)
        expect(events == (1, 1) and transform.bijective, "transform", "a bijection of vectors", f"events {events}")


@contract_check
def inverse_undoes_forward(contract: FlowContract) -> None:
    """Both directions undo each other, also for values that no draw gave, and agree on the log-determinant."""
    transform = contract.flow()(contract.context(BATCH)).with_cache(0)
    for scale in (1.0, max(1.0, contract.latent_scale)):
        x, y = contract.latents(7, BATCH), scale * contract.latents(2, 7, BATCH)
        expect_close("inverse of a draw", transform.inv(transform(x)), x, contract.tolerance)
        expect_close("forward of an inverse", transform(transform.inv(y)), y, contract.tolerance)
        x, log_det = transform.inverse_with_log_det(y)
        there = transform.forward_with_log_det(x)[1]
        expect_close("log-determinant from the inverse", log_det, there, contract.tolerance)


@contract_check
def log_det_is_that_of_the_jacobian(contract: FlowContract) -> None:
    """The log-determinant is that of the Jacobian by automatic differentiation."""
    flow, context, z = contract.flow(), contract.context(BATCH), contract.latents(BATCH)
    log_det = flow(context).log_abs_det_jacobian(z, flow(context)(z))
    for example in range(BATCH):
        transform = flow(context[example])
        jacobian: Any = torch.autograd.functional.jacobian(transform, z[example])
        expected = torch.linalg.slogdet(jacobian).logabsdet
        expect_close("log-determinant", log_det[example], expected, contract.tolerance)


@contract_check
def gradients_reach_parameters_and_inputs(contract: FlowContract) -> None:
    """Each parameter, the latents and the context have a gradient, in both directions and both modes."""
    for training in (True, False):
        for direction in ("forward", "inverse"):
            flow = contract.flow().train(training)
            objective, tensors = _objective(contract, flow, direction)
            objective().backward()
            for name, tensor in tensors.items():
                subject = f"gradient of {name}, {direction}, {'training' if training else 'evaluation'} mode"
                expect(tensor.grad is not None, subject, "one", "none")
                gradient = torch.as_tensor(tensor.grad)
                expect(bool(gradient.isfinite().all()), subject, "finite values", "others")
                expect(bool(gradient.abs().max() > 0), subject, "another than zero", "zero")


@contract_check
def gradients_are_those_of_finite_differences(contract: FlowContract) -> None:
    """A central difference, partly along the gradient and partly in a random direction, agrees with the gradient."""
    step = contract.tolerance**0.5
    for direction in ("forward", "inverse"):
        objective, tensors = _objective(contract, contract.flow(), direction)
        objective().backward()
        gradient = {name: torch.as_tensor(tensor.grad) for name, tensor in tensors.items()}
        noise = {name: torch.randn_like(value) for name, value in gradient.items()}
        length, noise_length = (_inner(vectors, vectors) ** 0.5 for vectors in (gradient, noise))
        along = {name: gradient[name] / length + noise[name] / noise_length for name in tensors}
        values = []
        with torch.no_grad():
            for move in (step, -2 * step):
                for name, tensor in tensors.items():
                    tensor.add_(move * along[name])
                values.append(objective())
        slope = (values[0] - values[1]) / (2 * step)
        error = float((slope - _inner(gradient, along)).abs() / length)
        expect(error <= GRADIENT_TOLERANCE, f"{direction} gradient", f"within {GRADIENT_TOLERANCE:g}", f"{error:.3g}")


def _objective(
    contract: FlowContract, flow: AmortizedFlow, direction: str
) -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    """Return a function of value and log-determinant, and all tensors that it depends on, by name."""
    context, z = contract.context(BATCH), contract.latents(BATCH)
    if direction == "inverse":
        z = flow(context)(z).detach()
    parameters = dict(flow.named_parameters())
    inputs = {"the latents": z, "the context": context} if parameters else {"the latents": z}
    weights, weights_of_log_det = torch.randn_like(z), torch.randn_like(z[..., 0])

    def objective() -> Tensor:
        transform = flow(context)
        primitive = transform.forward_with_log_det if direction == "forward" else transform.inverse_with_log_det
        value, log_det = primitive(z)
        return (value.sin() * weights).sum() + (log_det * weights_of_log_det).sum()

    return objective, {**parameters, **{name: tensor.requires_grad_() for name, tensor in inputs.items()}}


def _inner(left: dict[str, Tensor], right: dict[str, Tensor]) -> Tensor:
    return torch.stack([(left[name] * right[name]).sum() for name in left]).sum()


@contract_check
def samples_and_batches_have_their_shapes(contract: FlowContract) -> None:
    """Latents `(*sample, *batch, D)` keep their shape, empty ones too, and examples do not influence each other."""
    flow = contract.flow()
    for batch in ((), (BATCH,), (2, 3), (0,)):
        for sample in ((), (7,), (2, 7), (0,)):
            context, z = contract.context(*batch), contract.latents(*sample, *batch)
            subject = f"sample shape {sample}, batch shape {batch}"
            y = flow(context)(z)
            expect_shape(f"value, {subject}", y, z.shape)
            log_det = flow(context).log_abs_det_jacobian(z, y)
            expect_shape(f"log-determinant, {subject}", log_det, sample + batch)
            x, log_det = flow(context).inverse_with_log_det(y.detach())
            expect_shape(f"inverse, {subject}", x, z.shape)
            expect_shape(f"log-determinant of the inverse, {subject}", log_det, sample + batch)
            if z.numel():
                first = (0,) * len(sample + batch)
                alone = flow(context[first[len(sample) :]])(z[first])
                expect_close(f"one example alone, {subject}", y[first], alone, contract.tolerance)


@contract_check
def context_and_latents_broadcast(contract: FlowContract) -> None:
    """Contexts and latents whose batch shapes broadcast give what the expanded ones give."""
    flow = contract.flow()
    for context_batch, latent_batch in BROADCAST_PAIRS:
        context, z = contract.context(*context_batch), contract.latents(*latent_batch)
        shape = torch.broadcast_shapes(context_batch, latent_batch)
        part, whole = flow(context), flow(context.expand(*shape, -1).contiguous())
        expanded = z.expand(*shape, -1).contiguous()
        subject = f"context batch {context_batch}, latent batch {latent_batch}"
        for actual, expected in (
            (part.forward_with_log_det(z), whole.forward_with_log_det(expanded)),
            (part.inverse_with_log_det(z), whole.inverse_with_log_det(expanded)),
        ):
            expect_close(f"value, {subject}", actual[0], expected[0], contract.tolerance)
            expect_close(f"log-determinant, {subject}", actual[1], expected[1], contract.tolerance)
        foretold = part.forward_shape(z.shape)
        expect(foretold == expanded.shape, f"forward_shape, {subject}", tuple(expanded.shape), tuple(foretold))
