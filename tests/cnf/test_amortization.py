import pytest
import torch

from tests.seeds import reseed
from vae_flows.cnf.amortization import make_amortization
from vae_flows.errors import InvalidInputError, UnknownNameError

WIDTHS = (3, 16, 12, 3)

RANKS = {"low_rank": 2}


@pytest.mark.parametrize("name", ["concat", "bias", "low_rank", "last_layer", "hyper"])
def test_updates_start_at_zero_but_can_leave_it(name):
    amortization = make_amortization(name, WIDTHS, context_dim=5, rank=RANKS.get(name))
    updates = amortization(torch.randn(4, 5))
    assert len(updates) == len(WIDTHS) - 1
    moving = []
    for update in updates:
        for part in (update.bias, update.dense, update.time_weight):
            if part is not None:
                assert not part.any()
                moving.append(part)
        if update.left is not None and update.right is not None:
            product = update.left @ update.right
            assert not product.any()
            moving.append(product)
    torch.stack([value.sum() for value in moving]).sum().backward()
    assert all(bool(p.grad is not None and p.grad.any()) for p in amortization.parameters())


@pytest.mark.parametrize("width", [32, 512])
@pytest.mark.parametrize("rank", [4, 32])
def test_an_optimisers_step_moves_the_dynamics_alike_at_every_width_and_rank(width, rank):
    """One step of Adam on V moves all entries by the learning rate: what it does to x U V must not grow."""
    reseed()
    update = make_amortization("low_rank", (width, width), context_dim=64, rank=rank)(torch.randn(100, 64))[0]
    assert update.left is not None
    factors = torch.randn(100, 1, width) @ update.left.detach()
    change = factors.abs().sum(-1).mean()
    assert 0.3 < float(change) < 3


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="Did you mean 'low_rank'"):
        make_amortization("low-rank", WIDTHS, 5, 2)
    with pytest.raises(InvalidInputError, match="rank"):
        make_amortization("low_rank", WIDTHS, 5, 0)


@pytest.mark.parametrize("name", ["last_layer", "hyper"])
@pytest.mark.parametrize("widths", [(8, 32, 8), (8, 512, 8)])
def test_an_optimisers_step_moves_whole_layers_alike_at_every_width(name, widths):
    """One step of Adam moves every entry of the head by the learning rate: what x ΔW gets of it must not grow."""
    amortization = make_amortization(name, widths, context_dim=4, rank=RANKS.get(name))
    with torch.no_grad():
        for parameter in amortization.parameters():
            parameter.zero_()
        amortization.head.bias.fill_(1.0)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    for update in amortization(torch.zeros(1, 4)):
        if update.dense is not None:
            # Of inputs all one, each output is the sum over the width of what a step moves an entry by.
            torch.testing.assert_close(update.dense.sum(-2), torch.ones(1, update.dense.shape[-1]))
