import pytest
import torch

from vae_flows.cnf.amortization import make_amortization
from vae_flows.errors import InvalidInputError, UnknownNameError

WIDTHS = (3, 16, 12, 3)


@pytest.mark.parametrize("name", ["bias", "low_rank"])
def test_updates_start_at_zero_but_can_leave_it(name):
    amortization = make_amortization(name, WIDTHS, context_dim=5, rank=2)
    updates = amortization(torch.randn(4, 5))
    assert len(updates) == len(WIDTHS) - 1
    moving = []
    for update in updates:
        assert update.bias is not None
        assert not update.bias.any()
        moving.append(update.bias)
        if update.left is not None and update.right is not None:
            product = update.left @ update.right
            assert not product.any()
            moving.append(product)
    torch.stack([value.sum() for value in moving]).sum().backward()
    assert all(bool(p.grad is not None and p.grad.any()) for p in amortization.parameters())


def test_left_factors_keep_the_size_of_what_they_multiply():
    torch.manual_seed(0)
    update = make_amortization("low_rank", (512, 512), context_dim=64, rank=20)(torch.randn(100, 64))[0]
    assert update.left is not None
    assert 0.3 < float((torch.randn(100, 1, 512) @ update.left.detach()).std()) < 3


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="Did you mean 'low_rank'"):
        make_amortization("low-rank", WIDTHS, 5, 2)
    with pytest.raises(InvalidInputError, match="rank"):
        make_amortization("low_rank", WIDTHS, 5, 0)
