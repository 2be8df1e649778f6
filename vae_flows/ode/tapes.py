"""What both adjoints need: the parts of a solve, the tapes of its evaluations, automatic differentiation as a tape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.ode.fields import AugmentedField, TapedField, Time
from vae_flows.ode.progress import SolveProgress
from vae_flows.ode.stepping import Step, SteppingSettings
from vae_flows.ode.tableaus import Tableau
from vae_flows.tensors.derivatives import Refusal, first_order
from vae_flows.tensors.inference_mode import differentiating, outside_inference_mode

__all__ = [
    "SECOND_DERIVATIVES",
    "AutogradTapedField",
    "LatestTapes",
    "Solve",
    "as_taped",
    "derivative",
    "differentiable",
]

Tape = TypeVar("Tape")

SECOND_DERIVATIVES = Refusal(
    "second derivatives through a solve",
    "Use ODESolver(fused=False) with gradient='backprop', through which gradients can be differentiated again.",
)


class Solve(NamedTuple):
    """What a solve that differentiates itself is made of."""

    field: TapedField
    interval: tuple[float, float]
    settings: SteppingSettings
    progress: SolveProgress


def derivative(field: AugmentedField, latent_dim: int, progress: SolveProgress) -> Callable[[Time, Tensor], Tensor]:
    """Return the derivative of a state of latents and integrals, every evaluation counted."""

    def evaluate(t: Time, state: Tensor) -> Tensor:
        progress.evaluate()
        return torch.cat(field.evaluate(t, state[..., :latent_dim]), -1)

    return evaluate


class LatestTapes(Generic[Tape]):
    """The tapes of the evaluations that the step being tried may need; earlier ones are let go."""

    def __init__(self, tableau: Tableau) -> None:
        self._stages = tableau.solution_stages
        self._tapes: dict[int, Tape] = {}
        self.count = 0
        """Evaluations so far."""

    def add(self, tape: Tape) -> None:
        """Keep the tape of the next evaluation."""
        self._tapes[self.count] = tape
        self.count += 1

    def of_step(self, step: Step, accepted: bool) -> list[Tape]:
        """Return the tapes of a step that was tried, and let go all but the one that the next attempt starts with."""
        tapes = [self._tapes[number] for number in step.evaluations[: self._stages]]
        first = step.evaluations[-1 if accepted else 0]
        self._tapes = {first: self._tapes[first]}
        return tapes


def as_taped(field: AugmentedField) -> TapedField:
    """Return the field as one that leaves tapes: itself, or by automatic differentiation."""
    return field if isinstance(field, TapedField) else AutogradTapedField(field)


def differentiable(field: TapedField, tensors: Sequence[Tensor]) -> Callable[[Time, Tensor], tuple[Tensor, Tensor]]:
    """Return an evaluation of the field as a function of z and of stand-ins for its tensors.

    For those who differentiate evaluations by automatic differentiation: gradients end at the stand-ins.

    Arguments:
        field: What is evaluated.
        tensors: The stand-ins, views of `field.tensors()` in their order.
    """

    def evaluate(t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return field.evaluate(t, z)
        return _Evaluation.apply(field, t, z, *tensors)

    return evaluate


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, field: TapedField, t: Time, z: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        del tensors  # stand for those that the field has
        ctx.field = field
        rates, ctx.tape = field.record(t, z)
        return rates

    @staticmethod
    @first_order(SECOND_DERIVATIVES)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        of_z = ctx.field.pull_back(ctx.tape, *grad_outputs)
        return None, None, of_z, *ctx.field.collect()


class AutogradTapedField(TapedField):
    """Any augmented field as a taped one: the tape is the graph of one evaluation."""

    has_pull_back = False

    def __init__(self, field: AugmentedField) -> None:
        self._field = field
        # Each once: of a tensor that is named twice, each name would get the whole gradient.
        self._tensors = list({id(tensor): tensor for tensor in field.tensors()}.values())
        self._sums: list[Tensor] | None = None
        self.num_integrals = field.num_integrals

    def tensors(self) -> Sequence[Tensor]:
        return self._tensors

    def evaluate(self, t: Time, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._field.evaluate(t, z)

    def check_tape(self, tape: Any) -> None:
        leaf, *outputs = tape
        _require_named(outputs, [leaf, *self._tensors])

    def record(self, t: Time, z: Tensor) -> tuple[tuple[Tensor, Tensor], object]:
        with differentiating(z, *self._tensors):
            leaf = z.detach().requires_grad_()
            value, integrals = self._field.evaluate(t, leaf)
        return (value.detach(), integrals.detach()), (leaf, value, integrals)

    def pull_back(self, tape: Any, value: Tensor, integrals: Tensor, *, of_tensors: bool = True) -> Tensor:
        leaf, *outputs = tape
        pairs = zip(outputs, (value, integrals), strict=True)
        differentiable = [(output, given) for output, given in pairs if output.requires_grad]
        if not differentiable:  # a field that depends on nothing
            return torch.zeros_like(leaf)
        outputs, cotangents = zip(*differentiable, strict=True)
        tensors = [tensor for tensor in self._tensors if tensor.requires_grad] if of_tensors else []
        with _ending_at(tensors), outside_inference_mode(value, integrals):
            of_z, *gradients = torch.autograd.grad(
                outputs, [leaf, *tensors], cotangents, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        if of_tensors:
            self._sums = [a + b for a, b in zip(self._sums, gradients, strict=True)] if self._sums else gradients
        return of_z

    def collect(self) -> list[Tensor]:
        found, self._sums = self._sums, None
        if found is None:
            return [torch.zeros_like(tensor) for tensor in self._tensors]
        sums = iter(found)
        return [next(sums) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in self._tensors]


def _require_named(outputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Check that a graph begins at the tensors: the gradients of others that it leads to would be lost.

    Raises:
        InvalidInputError: It leads to another leaf.
    """
    named = {id(tensor) for tensor in tensors}
    seen = {tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None}
    waiting = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in named:
            raise InvalidInputError(
                complaint(
                    "tensors of a vector field",
                    "all that f depends on and that have gradients, for gradient='recompute' or 'adjoint'",
                    f"another one, of shape {tuple(leaf.shape)}, in the closure of f",
                    "Name it in parameters=(...), give f as an nn.Module that holds it, or use gradient='backprop'.",
                )
            )
        waiting.extend(earlier for earlier, _ in node.next_functions)


@contextmanager
def _ending_at(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Have gradients end at the tensors: where one was computed from another, the other would get its part twice."""
    nodes = {tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None}
    # These hooks run after the gradient of an input has been noted, and before it is passed on.
    handles = [node.register_prehook(lambda gradients: tuple(None for _ in gradients)) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
