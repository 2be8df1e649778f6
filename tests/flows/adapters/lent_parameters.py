"""Whether a transform keeps the parameters that its flow was lent while it was made."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_flows.flows import AmortizedFlow

__all__ = ["check_lent_parameters"]


def check_lent_parameters(flow: AmortizedFlow, context: Tensor, z: Tensor) -> None:
    """Lend a flow other parameters, and compare values and gradients with those of a flow that has them."""
    lent = {name: (one + 0.05 * torch.randn_like(one)).requires_grad_() for name, one in flow.named_parameters()}
    found = torch.func.functional_call(flow, lent, (context,)).forward_with_log_det(z)
    gradients = torch.autograd.grad(found[0].sum() + found[1].sum(), [*lent.values()], allow_unused=True)
    flow.load_state_dict({**flow.state_dict(), **lent})
    expected = flow(context).forward_with_log_det(z)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    own = torch.autograd.grad(expected[0].sum() + expected[1].sum(), [*flow.parameters()], allow_unused=True)
    for one, other in zip(gradients, own, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
