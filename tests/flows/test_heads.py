from __future__ import annotations

import torch

from vae_flows.flows.heads import LinearHeads


def test_heads_emit_their_rows_of_one_linear_map() -> None:
    heads = LinearHeads(3, (2, 2), (0,), (), (5,))
    context = torch.randn(4, 6, 3)
    matrix, nothing, scalar, vector = heads(context)
    flat = heads.linear(context)
    assert torch.equal(matrix, flat[..., :4].reshape(4, 6, 2, 2))
    assert nothing.shape == (4, 6, 0)
    assert torch.equal(scalar, flat[..., 4])
    assert torch.equal(vector, flat[..., 5:])
