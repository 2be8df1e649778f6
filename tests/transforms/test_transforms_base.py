from __future__ import annotations

import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import ChainTransform, FusedTransform, IdentityTransform, PlanarTransform, ReverseTransform

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


def test_a_transform_is_freed_at_once_also_after_its_inverse_was_used() -> None:
    transform = CountingTransform(torch.tensor(2.0))
    inverse = transform.inv
    assert inverse.inv is transform
    assert inverse == transform.inv
    freed = weakref.ref(transform)
    gc.disable()
    try:
        del inverse, transform
        assert freed() is None
    finally:
        gc.enable()


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
