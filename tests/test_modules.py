"""A view of a module keeps its tensors."""

from __future__ import annotations

import pickle

import torch
from torch import nn

from vae_flows.modules import bound


def test_a_view_keeps_the_tensors_that_a_call_was_lent() -> None:
    class Maker(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

        def forward(self) -> nn.Module:
            return bound(self.layers)

    maker, x = Maker().eval(), torch.randn(4, 2)
    lent = {name: torch.randn_like(tensor).abs() for name, tensor in maker.state_dict().items() if "num" not in name}
    view = torch.func.functional_call(maker, lent, ())
    expected = torch.func.functional_call(maker.layers, {name[7:]: tensor for name, tensor in lent.items()}, (x,))
    assert torch.equal(view(x), expected)
    assert not torch.equal(maker.layers(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(view))(x), expected)


def test_a_view_shares_tensors_and_leaves_the_module_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    view = bound(module)
    assert [id(p) for p in view.parameters()] == [id(p) for p in module.parameters()]
    assert isinstance(view, nn.Sequential)
    module[0] = nn.Identity()
    assert isinstance(view[0], nn.Linear)
