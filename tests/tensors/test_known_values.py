from __future__ import annotations

import torch

from vae_flows.tensors.known_values import functorch_is_active, known


def test_values_are_known_but_for_compiled_and_mapped_code() -> None:
    assert known(torch.tensor([True, True])) is True
    assert known(torch.tensor([True, False])) is False
    assert torch.compile(lambda x: x + 1 if known(x > 0) is None else x, backend="eager")(torch.ones(1)) == 2
    assert not functorch_is_active()
    torch.func.vmap(lambda x: (x, (known(x > 0) is None and functorch_is_active()) or 1 / 0)[0])(torch.ones(2))
