from __future__ import annotations

import copy

import pytest
import torch
from pyro.distributions.transforms import AffineAutoregressive
from pyro.nn import AutoRegressiveNN
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import AffineTransform, ExpTransform, StickBreakingTransform, Transform

from vae_flows.transforms import CachedTransform, IdentityTransform

EXACT = 1e-12  # another order of the same operations


@pytest.mark.parametrize(
    "inner",
    [ExpTransform(), AffineTransform(1.0, -2.0), StickBreakingTransform(), biject_to(constraints.interval(0, 1))],
)
def test_a_cached_transform_is_the_transform_with_one_evaluation_kept(inner: Transform) -> None:
    transform, x = CachedTransform(inner), torch.randn(4, 3, dtype=torch.float64)
    y = transform(x)
    assert torch.equal(y, inner(x))
    assert transform.inv(y) is x
    assert inner.inv(y) is not x
    assert torch.equal(transform.log_abs_det_jacobian(x, y), inner.log_abs_det_jacobian(x, y))
    torch.testing.assert_close(transform.with_cache(0).inv(y), x, rtol=EXACT, atol=EXACT)
    for ours, theirs in ((transform, inner), (transform.inv, inner.inv)):
        assert (ours.domain, ours.codomain) == (theirs.domain, theirs.codomain)
        assert ours.forward_shape((4, 3)) == theirs.forward_shape(torch.Size([4, 3]))
        assert ours.inverse_shape((4, 3)) == theirs.inverse_shape(torch.Size([4, 3]))
    assert transform.bijective == inner.bijective


def test_changes_in_place_are_seen() -> None:
    transform, x = CachedTransform(ExpTransform()), torch.randn(4, 3)
    y = transform(x)
    y.mul_(2)
    torch.testing.assert_close(transform.inv(y), y.log())


def test_learned_transforms_are_not_stale_after_a_step() -> None:
    inner = AffineAutoregressive(AutoRegressiveNN(3, [8]))
    transform, x = CachedTransform(inner), torch.randn(4, 3)
    with torch.no_grad():
        y = transform(x).clone()
        for parameter in inner.parameters():
            parameter.add_(0.1)
        assert not torch.equal(transform(x), y)


def test_the_sign_is_that_of_the_transform() -> None:
    assert CachedTransform(AffineTransform(0.0, -1.0)).sign == -1


def test_an_inverse_has_both_directions_and_can_be_copied() -> None:
    exp, x = CachedTransform(ExpTransform()), torch.randn(4, 3, dtype=torch.float64)
    for transform, expected in ((exp, x), (exp.inv, -x)):
        y, log_det = transform.forward_with_log_det(x if transform is exp else x.exp())
        torch.testing.assert_close(log_det, expected, rtol=EXACT, atol=EXACT)
        _, again = transform.inverse_with_log_det(y)
        torch.testing.assert_close(again, expected, rtol=EXACT, atol=EXACT)
    assert torch.equal(copy.deepcopy(exp.inv)(x.exp()), exp.inv(x.exp()))
    assert exp.inv != IdentityTransform(3, torch.Size()).inv
    assert exp.inv.evaluate(x.exp()).regularization is None
