"""Objects survive being described, and a description builds nothing but registered classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch import nn

from vae_flows.cnf import BottleneckDivergence, JacobianNorm, MLPDynamics, ODESolver
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.networks import ConvDecoder, ConvEncoder, MLPDecoder
from vae_flows.persistence.configuration import UnregisteredClassError, build, config_of, describe, register_class


class Unregistered:
    pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.1,
        "text",
        (1, (2.5, True), {"a": (None,)}),
        ODESolver("rk4", options={"step_size": 0.1}, fallback=ODESolver(rtol=1e-2)),
        JacobianNorm(0.1, noise="gaussian"),
        BottleneckDivergence("rademacher", num_probes=3),
    ],
)
def test_values_are_equal_after_json(value: Any) -> None:
    assert build(json.loads(json.dumps(describe(value)))) == value


@pytest.mark.parametrize(
    "module",
    [
        ConvEncoder((1, 4, 4), context_dim=3),
        ConvDecoder(2, (1, 4, 4), parameters_per_pixel=5),
        MLPDecoder(2, (1, 4, 4), hidden_dims=(3, 5), parameters_per_pixel=2),
        MLPDynamics(2, (3,), activation="swish", time_conditioning="blend"),
    ],
)
def test_modules_are_built_alike(module: nn.Module) -> None:
    again = build(json.loads(json.dumps(describe(module))))
    assert describe(again) == describe(module)
    assert repr(again) == repr(module)
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


def test_unregistered_classes_are_neither_described_nor_built() -> None:
    with pytest.raises(UnregisteredClassError, match="Unregistered"):
        describe([{"deep": Unregistered()}])
    for name in ("Unregistered", "os.system", "builtins.eval", "torch.nn.Linear", "MLPEncodr"):
        with pytest.raises(UnknownNameError, match=f"registered class: expected one of .*, got '{name}'"):
            build({"class": name})


def test_a_subclass_is_not_described_as_its_base() -> None:
    class Larger(MLPDynamics):
        pass

    with pytest.raises(UnregisteredClassError, match="Larger"):
        describe(Larger(2, (3,)))


def test_a_name_is_given_once() -> None:
    with pytest.raises(InvalidInputError, match="class 'ODESolver': expected a free name, got one taken by ODESolver"):
        register_class("ODESolver")(Unregistered)


def test_arguments_that_are_not_kept_are_named() -> None:
    class Forgetful:
        def __init__(self, width: int, **options: int) -> None: ...

    with pytest.raises(InvalidInputError, match=r"configuration of .*Forgetful: .* got none for width, options"):
        config_of(Forgetful(3))


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        ({"size": 1, "stride": 1}, "got an unexpected keyword argument 'stride'"),
        ({}, "missing a required argument: 'size'"),
        ({"size": 1, "self": 1}, "got an unexpected keyword argument 'self'"),
    ],
)
def test_arguments_that_a_class_does_not_take_are_told(config: dict[str, Any], refusal: str) -> None:
    register_class("Sized")(_Sized)
    message = rf"registered class 'Sized': expected arguments that it takes, got the class _Sized \({refusal}"
    for description in ({"class": "Sized", **config}, [{"inner": {"class": "Sized", **config}}]):
        with pytest.raises(InvalidInputError, match=message):
            build(description)


def test_an_error_inside_of_a_class_stays_its_own() -> None:
    register_class("Sized")(_Sized)
    assert build({"class": "Sized", "size": 3}).size == 4
    with pytest.raises(TypeError, match="can only concatenate str"):
        build({"class": "Sized", "size": "3"})


class _Sized:
    def __init__(self, size: int) -> None:
        self.size = size + 1
