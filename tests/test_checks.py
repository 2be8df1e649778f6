"""Arguments are checked against the annotations that describe them, in one style of error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vae_flows.checks import (
    Measured,
    check_argument,
    checked,
    described,
    require_finite,
    require_sample_shape,
    require_takes,
)
from vae_flows.errors import InvalidInputError, UnknownNameError


class Sized(Protocol):
    size: int


class WithSize:
    size = 3


FITTING: list[tuple[Any, object]] = [
    (int, 3),
    (float, 3),
    (float, np.float32(0.5)),
    (Measured, float("nan")),
    (Measured | None, float("inf")),
    (tuple[Measured, ...], (1, np.float32(2.5))),
    (bool, False),
    (int | None, None),
    (Sequence[int], torch.Size([2, 3])),
    (tuple[float, float], [1, 2.0]),
    (tuple[int, ...], ()),
    (Mapping[str, int], {"a": 1}),
    (Callable[[int], int], abs),
    (Literal["a", "b"], "b"),
    (Tensor, nn.Parameter(torch.zeros(2))),
    (Sequence[Tensor], [torch.zeros(2)]),
    (type[nn.Module], nn.Linear),
    (Sized, WithSize()),
    (Any, object()),
]
UNFIT: list[tuple[Any, object, str]] = [
    (int, True, "expected an integer, got True"),
    (int, 3.0, "expected an integer, got 3.0"),
    (float, float("nan"), "expected a finite number, got nan"),
    (float, float("inf"), "expected a finite number, got inf"),
    (float, False, "expected a finite number, got False"),
    (Measured, True, "expected a number, got True"),
    (Measured | None, "1", "expected a number or None, got '1'"),
    (Literal[1, 3] | None, "1", "expected 1 or 3 or None, got '1'"),
    (bool, "no", "expected True or False, got 'no'"),
    (int | None, "3", "expected an integer or None, got '3'"),
    (Sequence[int], "33", "expected a sequence with entries each an integer, got '33'"),
    (Sequence[int], (3, True), "entries each an integer"),
    (tuple[float, float], (1.0,), "expected 2 entries: a finite number, a finite number"),
    (tuple[int, ...], 3, "got 3"),
    (Mapping[str, int], {"a": "b"}, "expected a mapping from a string to an integer"),
    (Callable[[int], int], 3, "expected a callable, got 3"),
    (Literal["a", "b"], None, "expected 'a' or 'b', got None"),
    (Tensor, np.zeros((2, 3)), r"expected a tensor, got a ndarray of dtype float64 and shape \(2, 3\)"),
    (Sequence[Tensor], torch.zeros(2), r"got a torch.float32 tensor of shape \(2,\)"),
    (nn.Module, nn.Linear, r"got the class Linear. Give an object: Linear\(…\)."),
    (type[nn.Module], int, "got the class int"),
    (Sized, WithSize, "got the class WithSize"),
    (Sized, None, "expected a Sized, got None"),
]


@pytest.mark.parametrize(("annotation", "value"), FITTING)
def test_what_an_annotation_describes_is_taken(annotation: Any, value: object) -> None:
    check_argument("subject", value, annotation)


@pytest.mark.parametrize(("annotation", "value", "message"), UNFIT)
def test_what_it_does_not_describe_is_told(annotation: Any, value: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^subject: .*{message}"):
        check_argument("subject", value, annotation)


def test_names_are_told_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"expected one of gaussian, rademacher, got 'gausian'. Did you mean"):
        check_argument("noise", "gausian", Literal["gaussian", "rademacher"])


def test_functions_constructors_methods_and_data_classes_are_checked_alike() -> None:
    @checked
    def function(*sizes: int, factor: float = 1.0, **options: str) -> float:
        return factor

    @checked
    @dataclass(frozen=True)
    class Record:
        size: int
        names: tuple[str, ...] = ()

    class Thing:
        @checked
        def __init__(self, size: int) -> None: ...

        @checked
        def method(self, x: Tensor) -> None: ...

    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: function(1, "2"), "function argument 1: expected an integer"),  # pyright: ignore[reportArgumentType]
        (lambda: function(factor="x"), "function factor: expected a finite number"),  # pyright: ignore[reportArgumentType]
        (lambda: function(name=3), "function name: expected a string"),  # pyright: ignore[reportArgumentType]
        (lambda: Record(True, ("a",)), "Record size: expected an integer, got True"),
        (lambda: Record(1, "ab"), "Record names"),  # pyright: ignore[reportArgumentType]
        (lambda: Thing(None), "Thing size: expected an integer, got None"),  # pyright: ignore[reportArgumentType]
        (lambda: Thing(3).method([1]), r"Thing.method x: expected a tensor, got \[1\]"),  # pyright: ignore[reportArgumentType]
    ]
    for call, message in wrong:
        with pytest.raises(InvalidInputError, match=message):
            call()
    assert (function(1, factor=2), Record(1)) == (2, Record(size=1))
    with pytest.raises(TypeError, match="sice"):
        Record(sice=3)  # pyright: ignore[reportCallIssue]


def test_checks_step_aside_under_compile() -> None:
    @checked
    def doubled(x: Tensor, factor: float = 2.0) -> Tensor:
        return factor * x

    compiled = torch.compile(doubled, backend="eager", fullgraph=True)
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]


def test_numbers_have_bounds() -> None:
    require_finite("Owner", above=0, rate=1e-3)
    require_finite("Owner", at_least=0, weight=0)
    for value in (0, -1.0, float("nan"), float("inf"), "x", None, True):
        with pytest.raises(InvalidInputError, match="Owner rate: expected a finite number above 0, got"):
            require_finite("Owner", above=0, rate=value)


@pytest.mark.parametrize("shape", [3, "3", "", b"", None, torch.Size([-1]), (2.0,), (True,), (-1,), [[2]], 1.5])
def test_shapes_are_sequences_of_sizes(shape: object) -> None:
    require_sample_shape("rsample", (2, 0))
    require_sample_shape("rsample", [2])
    with pytest.raises(InvalidInputError, match=r"rsample: expected a shape, such as \(10,\) or \(\), got"):
        require_sample_shape("rsample", shape)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "refusal"),
    [
        (len, (), {}, r"<built-in function len> \(missing a required argument"),
        (nn.Linear, (3,), {}, r"the class Linear \(missing a required argument: 'out_features'\)"),
        (nn.Identity(), (1, 2), {}, r"a module Identity \(too many positional arguments\)"),
        (nn.Linear, (3, 4), {"size": 5}, r"the class Linear \(got an unexpected keyword argument 'size'\)"),
    ],
)
def test_functions_that_do_not_take_what_they_are_given_are_told(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], refusal: str
) -> None:
    require_takes("subject", "another", nn.Linear, 3, out_features=4)
    with pytest.raises(InvalidInputError, match=f"subject: expected another, got {refusal}"):
        require_takes("subject", "another", function, *args, **kwargs)


def test_descriptions_are_short() -> None:
    assert described(torch.zeros(1000)) == "a torch.float32 tensor of shape (1000,)"
    assert len(described(list(range(1000)))) < 110
    assert described(nn.Linear(1, 1)) == "a module Linear"
