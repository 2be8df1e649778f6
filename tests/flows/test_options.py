"""Options of flows: what is wrong is told with the names that are right, and nobody's bug is taken for one."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import nn

import vae_flows as vf
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import AmortizedFlow, IdentityFlow, PlanarFlow, registry

D, C = 2, 3


class Own(IdentityFlow):
    def __init__(self, latent_dim: int, context_dim: int, *, width: int, depth: int = 1) -> None:
        super().__init__(latent_dim, context_dim)
        if depth == 2:
            raise TypeError("a bug of the flow's own")
        len(depth) if depth == 3 else None  # pyright: ignore[reportArgumentType]


class Open(IdentityFlow):
    def __init__(self, latent_dim: int, context_dim: int, **options: Any) -> None:
        super().__init__(latent_dim, context_dim)


@pytest.fixture(autouse=True)
def own_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    vf.register_flow("own")(Own)
    vf.register_flow("open")(Open)


WRONG = [
    ("planar", {"layers": 2}, "expected num_layers, .*got 'layers'. Did you mean 'num_layers'"),
    ("none", {"layers": 2}, "expected none, got 'layers'"),
    ("ffjord", {"hiden_dims": (4,), "rank": 1}, "hidden_dims, .*got 'hiden_dims'. Did you mean 'hidden_dims'"),
    ("own", {"with": 2, "depth": 1}, "expected width, depth, got 'with'. Did you mean 'width'"),
    ("own", {"depth": 1}, "expected width, depth, got none of the name 'width', which it needs"),
    ("pyro:planar", {"layers": 2}, "expected num_layers, orientation, hidden_dims, got 'layers'"),
    ("pyro:affine_coupling", {"hidden": (8,)}, "got 'hidden'. Did you mean 'hidden_dims'"),
    pytest.param("zuko:NSF", {"bin": 2}, "got 'bin'. Did you mean 'bins'", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_wrong_options_name_the_right_ones(name: str, options: dict[str, Any], message: str) -> None:
    makers = [
        lambda: vf.make_flow(name, D, C, **options),
        lambda: vf.AmortizedPosterior(D, C, name, **options),
    ]
    for make in makers:
        with pytest.raises(InvalidInputError, match=rf"flow '{name}' does not take these options \(.*\): .*{message}"):
            make()


def test_guides_tell_wrong_options_when_they_make_their_flow(clean_param_store: None) -> None:
    def model(x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(torch.tensor(0.0), 1.0))

    guide = vf.AmortizedAutoGuide(model, nn.Linear(1, C), "planar", layers=2)
    with pytest.raises(InvalidInputError, match=r"expected num_layers, .*got 'layers'"):
        guide(torch.rand(4, 1))


@pytest.mark.parametrize(("depth", "message"), [(2, "a bug of the flow's own"), (3, "has no len")])
def test_a_bug_inside_a_flow_is_not_taken_for_a_wrong_option(depth: int, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        vf.make_flow("own", D, C, width=1, depth=depth)


def test_flows_of_any_options_take_them() -> None:
    assert isinstance(vf.make_flow("open", D, C, anything=3), Open)


@pytest.mark.parametrize("name", [None, 3, ("planar",), {"flow": "planar"}, b"planar"])
def test_names_that_are_no_strings_are_told(name: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"flow: expected one of ffjord, .* got "):
        vf.make_flow(name, D, C)


def test_classes_and_flows_in_place_of_names_are_told_what_to_do() -> None:
    wrong: Any = PlanarFlow
    with pytest.raises(UnknownNameError, match=r"got the class PlanarFlow. Make it: PlanarFlow\(latent_dim, context"):
        vf.make_flow(wrong, D, C)
    made: Any = PlanarFlow(D, C)
    with pytest.raises(UnknownNameError, match="got a flow, which needs no making"):
        vf.make_flow(made, D, C)


@pytest.mark.parametrize("name", [n for n in vf.available_flows() if ":" not in n and n != "my-flow"])
def test_contexts_of_another_kind_are_told(name: str) -> None:
    flow: AmortizedFlow = vf.make_flow(name, D, C)
    wrong: list[Any] = [None, "x", [[1.0, 2.0, 3.0]], torch.ones(4, C).numpy(), torch.ones(4, C, dtype=torch.int64)]
    for context in wrong:
        with pytest.raises(InvalidInputError, match="context: expected a floating-point tensor"):
            flow(context)
    if name != "none":
        for context in (torch.ones(4, C).double(), torch.ones(4, C, device="meta")):
            with pytest.raises(
                InvalidInputError, match=r"context: expected torch.float32 on cpu, as its parameters, got"
            ):
                flow(context)
