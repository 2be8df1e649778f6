"""Permutations, which move no volume."""

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.transforms import PermutationTransform


def test_value_inverse_and_score_are_permuted_alike():
    order = torch.randperm(6)
    transform = PermutationTransform(order)
    x = torch.randn(3, 2, 6)
    found = transform.evaluate_with_score(x, x.cos())
    assert found.y.equal(x[..., order])
    assert found.score.equal(x.cos()[..., order])
    assert not found.log_det.any()
    assert found.log_det.shape == (3, 2)
    assert transform.inv(found.y.clone()).equal(x)


@pytest.mark.parametrize(
    "order",
    [torch.tensor([0, 0, 1]), torch.tensor([1, 2]), torch.tensor([[0, 1]]), torch.tensor([0.0, 1.0]), torch.tensor(0)],
    ids=["twice", "from one on", "a matrix", "real numbers", "a number"],
)
def test_what_is_no_permutation_is_refused(order):
    with pytest.raises(InvalidInputError, match="each of 0"):
        PermutationTransform(order)
