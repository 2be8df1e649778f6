from __future__ import annotations

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.flows.heads import LinearHeads, require_positive


def test_heads_emit_their_rows_of_one_linear_map() -> None:
    heads = LinearHeads(3, (2, 2), (0,), (), (5,))
    context = torch.randn(4, 6, 3)
    matrix, nothing, scalar, vector = heads(context)
    flat = heads.linear(context)
    assert torch.equal(matrix, flat[..., :4].reshape(4, 6, 2, 2))
    assert nothing.shape == (4, 6, 0)
    assert torch.equal(scalar, flat[..., 4])
    assert torch.equal(vector, flat[..., 5:])


@pytest.mark.parametrize("size", [0, -1, 1.0, "3", None, True])
def test_sizes_must_be_positive_integers(size: object) -> None:
    with pytest.raises(InvalidInputError, match="Flow depth: expected a positive integer, got"):
        require_positive("Flow", width=3, depth=size)  # pyright: ignore[reportArgumentType]
