from __future__ import annotations

import pytest
import torch

from vae_flows.flows.heads import LinearHeads, bounded


def test_heads_emit_their_rows_of_one_linear_map() -> None:
    heads = LinearHeads(3, (2, 2), (0,), (), (5,))
    context = torch.randn(4, 6, 3)
    matrix, nothing, scalar, vector = heads(context)
    flat = heads.linear(context)
    assert torch.equal(matrix, flat[..., :4].reshape(4, 6, 2, 2))
    assert nothing.shape == (4, 6, 0)
    assert torch.equal(scalar, flat[..., 4])
    assert torch.equal(vector, flat[..., 5:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_bounded_context_keeps_its_direction_and_what_is_small(dtype: torch.dtype) -> None:
    context = torch.randn(5, 40, dtype=torch.float64)
    for size, limit in ((1e-3, 0.1), (1.0, 0.1), (1e3, 0.1), (1e3, 2.0)):
        seen = bounded((size * context).to(dtype), limit)
        assert seen.dtype == dtype
        mean_square = (size * context).square().mean(-1, keepdim=True)
        expected = size * context / (1 + mean_square / limit**2).sqrt()
        rounding = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(seen.double(), expected, rtol=rounding, atol=rounding * 1e-3)
        assert (expected.square().mean(-1).sqrt() < limit).all()


def test_gradients_of_bounded_contexts() -> None:
    context = torch.randn(3, 4, dtype=torch.float64)
    context[0] = 0
    assert torch.autograd.gradcheck(lambda x: bounded(x, 0.3), [context.requires_grad_()])
    assert torch.autograd.gradgradcheck(lambda x: bounded(x, 0.3), [context])
