from itertools import product

import pytest
import torch
from torch import Size

from vae_flows.errors import InvalidInputError
from vae_flows.tensors.shapes import broadcast_batch, broadcast_shapes, fold_samples


@pytest.mark.parametrize("sample", [(), (3,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_fold_and_unfold_are_inverse(sample, batch):
    z = torch.randn(*sample, *batch, 5)
    folded = fold_samples(z, Size(batch), z.shape[:-1])
    assert folded.values.shape == (*batch, torch.Size(sample).numel(), 5)
    assert torch.equal(folded.unfold(folded.values), z)
    assert torch.equal(folded.unfold(folded.values.sum(-1)), z.sum(-1))


def test_folding_keeps_each_examples_samples_together():
    z = torch.arange(6.0).reshape(2, 3, 1)
    assert fold_samples(z, Size([3]), Size([2, 3])).values[1].flatten().tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("z", "match"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), "floating-point"),
        (torch.zeros(3, 4), r"shape \(\.\.\., 2\)"),
        (torch.tensor(1.0), "latents of shape"),
        (torch.zeros(4, 2), r"\*batch = \(3,\)"),
    ],
)
def test_wrong_latents_are_told_apart(z, match):
    with pytest.raises(InvalidInputError, match=match):
        broadcast_batch("PlanarTransform", z, 2, Size([3]))


SHAPES = [Size(shape) for dims in range(3) for shape in product((0, 1, 2, 3), repeat=dims)]


@pytest.mark.parametrize("first", SHAPES, ids=str)
def test_shapes_broadcast_as_torch_has_it(first):
    for others in product(SHAPES, repeat=2):
        try:
            expected = torch.broadcast_shapes(first, *others)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                broadcast_shapes(first, *others)
        else:
            assert broadcast_shapes(first, *others) == expected
            assert type(broadcast_shapes(first, *others)) is Size
