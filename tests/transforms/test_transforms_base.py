from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import AffineTransform

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import (
    ChainTransform,
    FusedTransform,
    IdentityTransform,
    PlanarTransform,
    ReverseTransform,
    forward_with_score,
)

BATCH = torch.Size([3])


class CountingTransform(FusedTransform):
    """y = s x, which counts its evaluations."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__(2, torch.Size([]))
        self.scale = scale
        self.evaluations = 0

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        return x * self.scale, (2 * self.scale.log()).expand(x.shape[:-1])

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        return y / self.scale, (2 * self.scale.log()).expand(y.shape[:-1])

    def dependencies(self) -> list[Tensor]:
        return [self.scale]


def test_a_remembered_evaluation_is_no_answer_to_what_is_no_tensor() -> None:
    transform = CountingTransform(torch.tensor(2.0))
    x = torch.randn(3, 2)
    y = transform(x)
    calls = [transform.evaluate, transform.evaluate_inverse, transform, transform.inv]
    for call in [*calls, lambda x: transform.log_abs_det_jacobian(x, y)]:
        with pytest.raises(InvalidInputError, match="expected a floating-point tensor, got None"):
            call(None)


def test_value_and_log_det_of_a_draw_take_one_evaluation() -> None:
    transform = CountingTransform(torch.tensor(2.0))
    x = torch.randn(3, 2)
    y = transform(x)
    assert transform.inv(y) is x
    assert transform(x) is y
    assert transform.log_abs_det_jacobian(x, y).shape == (3,)
    assert transform.evaluations == 1


@pytest.mark.parametrize("changed", ["x", "y", "scale"])
def test_the_cache_notices_changes_in_place(changed: str) -> None:
    scale, x = torch.tensor(2.0), torch.randn(3, 2)
    transform = CountingTransform(scale)
    y = transform(x)
    {"x": x, "y": y, "scale": scale}[changed].mul_(3.0)
    torch.testing.assert_close(transform(x), x * scale)
    assert transform.evaluations == 2


def test_without_a_cache_everything_is_recomputed() -> None:
    transform = CountingTransform(torch.tensor(2.0)).with_cache(0)
    assert isinstance(transform, CountingTransform)
    x = torch.randn(3, 2)
    y = transform(x)
    assert transform.inv(y) is not x
    assert transform.evaluations == 2
    with pytest.raises(InvalidInputError, match="cache_size: expected 0 or 1, got 2"):
        transform.with_cache(2)


def test_chain_composes_in_order_and_adds_log_determinants() -> None:
    u, w = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    parts = [PlanarTransform(u[layer], w[layer], torch.randn(3, dtype=torch.float64)) for layer in range(2)]
    reverse = ReverseTransform(4, BATCH)
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    y1, d1 = parts[0].forward_with_log_det(x)
    y2, d2 = parts[1].forward_with_log_det(y1.flip(-1))
    chain = ChainTransform([parts[0], reverse, parts[1]])
    y, log_det = chain.forward_with_log_det(x)
    torch.testing.assert_close(y, y2)
    torch.testing.assert_close(log_det, d1 + d2)
    x_again, log_det_again = chain.inverse_with_log_det(y)
    torch.testing.assert_close(x_again, x)
    torch.testing.assert_close(log_det_again, log_det)


def test_chain_knows_what_its_parts_depend_on() -> None:
    scale = torch.tensor(2.0)
    assert ChainTransform([CountingTransform(scale), CountingTransform(scale)]).dependencies() == [scale, scale]


def test_chain_refuses_nothing_and_different_sizes() -> None:
    with pytest.raises(InvalidInputError, match="transforms of one latent dimension"):
        ChainTransform([])
    with pytest.raises(InvalidInputError, match=r"got \[2, 4\]"):
        ChainTransform([CountingTransform(torch.ones(())), ReverseTransform(4, BATCH)])


@pytest.mark.parametrize("kind", [IdentityTransform, ReverseTransform])
def test_volume_preserving_transforms(kind: type[FusedTransform]) -> None:
    transform = kind(4, BATCH)
    x = torch.randn(4)
    y, log_det = transform.forward_with_log_det(x)
    assert y.shape == (3, 4)
    assert torch.equal(log_det, torch.zeros(3))
    assert torch.equal(transform.inverse_with_log_det(y)[0], x.expand(3, 4))


def test_pickles_without_its_cache() -> None:
    transform = CountingTransform(torch.tensor(2.0))
    transform(torch.randn(3, 2))
    copy = pickle.loads(pickle.dumps(transform))
    assert copy._latest is None
    assert torch.equal(copy(torch.ones(2)), torch.full((2,), 2.0))


# Scores

ROUNDING = 1e-10


class DenseTransform(FusedTransform):
    """y = A (x + x³), evaluated by a function with or without a graph that PyTorch can batch."""

    def __init__(self, matrix: Tensor, *, python_function: bool) -> None:
        super().__init__(matrix.shape[-1], matrix.shape[:-2])
        self.matrix = matrix
        self.python_function = python_function
        self.evaluations = 0

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        bent = Bent.apply(x) if self.python_function else x + x**3
        assert isinstance(bent, Tensor)
        log_det = torch.linalg.slogdet(self.matrix).logabsdet + (1 + 3 * x**2).log().sum(-1)
        return (self.matrix @ bent.unsqueeze(-1)).squeeze(-1), log_det

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def expected_score(self, x: Tensor, score: Tensor) -> Tensor:
        slope = 1 + 3 * x**2
        residual = (score - 6 * x / slope) / slope
        return torch.linalg.solve(self.matrix.mT, residual.unsqueeze(-1)).squeeze(-1)


class Bent(torch.autograd.Function):
    """x + x³, whose backward pass refuses batches of cotangents."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x + x**3

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        assert cotangents[0].isfinite().all().item()
        return cotangents[0] * (1 + 3 * x**2)


def dense(*, python_function: bool) -> DenseTransform:
    matrix = torch.randn(3, 4, 4, dtype=torch.float64).requires_grad_()
    return DenseTransform(matrix, python_function=python_function)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("python_function", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 4), (3, 4), (4,), (0, 3, 4)])
@pytest.mark.parametrize("learned", [False, True])
def test_the_score_of_any_transform(python_function: bool, shape: tuple[int, ...], learned: bool) -> None:
    transform = dense(python_function=python_function)
    x, score = torch.randn(2, *shape, dtype=torch.float64)
    x.requires_grad_(learned)
    y, log_det, carried = transform.forward_with_score(x, score)
    assert transform.evaluations == 1
    assert transform.matrix.grad is None
    expected_y, expected_log_det = transform.forward_with_log_det(x)
    close(y, expected_y)
    close(log_det, expected_log_det)
    close(carried, transform.expected_score(x, score.expand(y.shape)).detach())
    assert not carried.requires_grad
    variables = [transform.matrix, *([x] if learned else [])]
    for gradient, expected in zip(
        torch.autograd.grad(y.sum() + log_det.sum(), variables),
        torch.autograd.grad(expected_y.sum() + expected_log_det.sum(), variables),
        strict=True,
    ):
        close(gradient, expected)


class LinearTransform(DenseTransform):
    """y = A x, whose log-determinant does not depend on x."""

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = torch.linalg.slogdet(self.matrix).logabsdet.expand(x.shape[:-1])
        return (self.matrix @ x.unsqueeze(-1)).squeeze(-1), log_det


def test_a_learned_log_determinant_that_does_not_depend_on_x_leaves_the_score_alone() -> None:
    matrix = torch.randn(3, 4, 4, dtype=torch.float64).requires_grad_()
    x, score = torch.randn(2, 3, 4, dtype=torch.float64)
    _, log_det, carried = LinearTransform(matrix, python_function=False).forward_with_score(x, score)
    close(carried, torch.linalg.solve(matrix.mT, score.unsqueeze(-1)).squeeze(-1).detach())
    (gradient,) = torch.autograd.grad(log_det.sum(), matrix)
    close(gradient, torch.linalg.inv(matrix).mT.detach())


def test_a_chain_carries_the_score_part_by_part() -> None:
    parts = [dense(python_function=False), ReverseTransform(4, BATCH), IdentityTransform(4, BATCH)]
    chain = ChainTransform([*parts, dense(python_function=True)])
    x, score = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    y, log_det, carried = chain.forward_with_score(x, score)
    whole = FusedTransform.forward_with_score(chain, x, score)
    for actual, expected in zip((y, log_det, carried), whole, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("kind", [IdentityTransform, ReverseTransform])
@pytest.mark.parametrize("shape", [(4,), (5, 3, 4)])
def test_scores_of_volume_preserving_transforms_are_those_of_the_general_way(
    kind: type[FusedTransform], shape: tuple[int, ...]
) -> None:
    transform = kind(4, BATCH)
    x, score = torch.randn(2, *shape)
    for actual, expected in zip(
        transform.forward_with_score(x, score), FusedTransform.forward_with_score(transform, x, score), strict=True
    ):
        assert torch.equal(actual, expected)


def test_scored_evaluations_are_remembered() -> None:
    transform = dense(python_function=False)
    x, score = torch.randn(2, 3, 4, dtype=torch.float64)
    y, log_det, _ = forward_with_score(transform, x, score)
    assert transform.inv(y) is x
    assert transform.log_abs_det_jacobian(x, y) is log_det
    assert transform.evaluations == 1


def test_without_gradients_scores_are_the_same_and_nothing_has_a_graph() -> None:
    transform = dense(python_function=False)
    x, score = torch.randn(2, 3, 4, dtype=torch.float64)
    expected = transform.forward_with_score(x, score)[2]
    with torch.no_grad():
        without = transform.forward_with_score(x, score)
    transform.matrix.requires_grad_(False)
    frozen = transform.forward_with_score(x, score)
    for outputs in (without, frozen):
        assert not any(tensor.requires_grad for tensor in outputs)
        close(outputs[2], expected)


def test_a_score_of_another_shape_is_refused() -> None:
    for score, got in (
        (torch.zeros(4), r"torch.float32 tensor of shape \(4,\)"),
        (torch.zeros(3, 4).double(), "torch.float64"),
        (torch.zeros(3, 4, device="meta"), "on meta"),
    ):
        with pytest.raises(InvalidInputError, match=rf"score: expected what x is, .*shape \(3, 4\), got .*{got}"):
            forward_with_score(IdentityTransform(4, BATCH), torch.zeros(3, 4), score)


def test_transforms_that_broadcast_have_a_score_for_each_value() -> None:
    scale = torch.tensor([1.0, 2.0, 4.0]).unsqueeze(-1)
    y, log_det, score = forward_with_score(AffineTransform(0.0, scale), torch.ones(2), torch.ones(2))
    assert torch.equal(y, scale.expand(3, 2))
    assert torch.equal(score, (1 / scale).expand(3, 2))
    assert log_det.shape == (3, 2)
