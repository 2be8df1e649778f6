import pickle

import pytest

from vae_flows.errors import (
    IntegrationError,
    InvalidInputError,
    UnknownNameError,
    VAEFlowsError,
    require_positive,
    unknown_name,
)


def test_unknown_name_lists_the_nearest_names_first():
    error = unknown_name("data set", "mnist-sttic", ["mnist-static", "omniglot"])
    assert isinstance(error, UnknownNameError)
    assert isinstance(error, VAEFlowsError)
    assert "Did you mean 'mnist-static'?" in str(error)


def test_unknown_name_without_a_near_one_still_lists_all():
    assert str(unknown_name("flow", "zzz", ["iaf"])) == "flow: expected one of iaf, got 'zzz'."


def test_integration_error_survives_pickling_between_processes():
    error = pickle.loads(pickle.dumps(IntegrationError("failed", t=0.25, step_size=1e-9, evaluations=12)))
    assert (str(error), error.t, error.step_size, error.evaluations) == ("failed", 0.25, 1e-9, 12)


def test_errors_are_caught_as_the_builtin_kind_that_a_user_expects():
    with pytest.raises(ValueError, match="Did you mean"):
        raise unknown_name("flow", "ia", ["iaf"])


@pytest.mark.parametrize("size", [0, -1, 1.0, "3", None, True])
def test_sizes_must_be_positive_integers(size: object) -> None:
    with pytest.raises(InvalidInputError, match="Flow depth: expected a positive integer, got"):
        require_positive("Flow", width=3, depth=size)


@pytest.mark.parametrize("name", [None, 3, ("planar",), {"flow": "planar"}])
def test_names_that_are_no_strings_are_told(name: object) -> None:
    assert str(unknown_name("flow", name, ["iaf"])) == f"flow: expected one of iaf, got {name!r}."
