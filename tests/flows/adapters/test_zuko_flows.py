from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import vae_flows as vf
from tests.flows.adapters.lent_parameters import check_lent_parameters
from tests.seeds import reseed
from tests.small_flows import CONTRACTS
from vae_flows.errors import IntegrationError, InvalidInputError, UnknownNameError
from vae_flows.flows import ZukoFlow
from vae_flows.flows.adapters.zuko import ZUKO_FAMILIES
from vae_flows.testing.map_checks import gradients_are_those_of_finite_differences

D, C, B = 4, 3, 5

installed = pytest.mark.skipif(find_spec("zuko") is None, reason="zuko is not installed")


@installed
def test_every_flow_of_vectors_in_zuko_is_a_family() -> None:
    flows = import_module("zuko.flows")
    theirs = {name for name, kind in vars(flows).items() if isinstance(kind, type) and issubclass(kind, flows.Flow)}
    assert theirs - {"Flow", "NCSF"} == set(ZUKO_FAMILIES)


@installed
@pytest.mark.parametrize("family", ZUKO_FAMILIES)
def test_value_and_log_det_are_zukos(family: str) -> None:
    reseed()
    flow = ZukoFlow(D, C, family)
    reseed()
    theirs = getattr(import_module("zuko.flows"), family)(D, C).transform
    context, z = torch.randn(B, C), torch.randn(7, B, D)
    y, log_det = flow(context).forward_with_log_det(z)
    expected, expected_log_det = theirs(context).call_and_ladj(z)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(log_det, expected_log_det)


@installed
@pytest.mark.parametrize(("orientation", "evaluations"), [("sampling", 1), ("density", D + 1)])
def test_drawing_is_the_cheap_direction(orientation: str, evaluations: int) -> None:
    posterior = vf.AmortizedPosterior(D, C, "zuko:NSF", transforms=2, hidden_features=(8,), orientation=orientation)
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    posterior.get_submodule("flow.lazy.transforms.0.hyper").register_forward_hook(note)
    posterior(torch.randn(B, C)).rsample_with_log_prob((3,))
    assert count == evaluations


@installed
def test_gradients_of_numeric_inverses_count_weights_once() -> None:
    gradients_are_those_of_finite_differences(CONTRACTS["zuko:NAF"].contract())


@installed
def test_a_value_that_is_not_reached_is_an_error_and_no_wrong_density() -> None:
    posterior = CONTRACTS["zuko:NAF"].posterior(D, C, transforms=2).double()
    q = posterior(torch.zeros(B, C, dtype=torch.float64))
    q.rsample_with_log_prob()
    with pytest.raises(InvalidInputError, match=r"inverse of zuko:NAF: expected values that the transform reaches"):
        q.log_prob(torch.full((B, D), 100.0, dtype=torch.float64))


@installed
@pytest.mark.parametrize("direction", ["forward_with_log_det", "inverse_with_log_det"])
def test_a_solve_that_zuko_would_not_end_is_ended(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = ZukoFlow(D, C, "CNF", hidden_features=(8,))
    nn.init.constant_(next(flow.parameters()), torch.nan)
    monkeypatch.setattr("vae_flows.flows.adapters.zuko.MAX_EVALUATIONS", 100)  # a fresh flow may take more
    with pytest.raises(IntegrationError, match="solve of zuko:CNF: expected at most 100 evaluations") as caught:
        getattr(flow(torch.zeros(B, C)), direction)(torch.zeros(B, D))
    assert caught.value.evaluations == 100
    assert not flow.get_submodule("lazy.ode")._forward_pre_hooks


@installed
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zuko:NSF", {"layers": 2}, "does not take these options"),
        ("zuko:MAF", {"transforms": 2, "order": [0, 1]}, "does not take these options"),
        ("zuko:MAF", {"orientation": "up"}, "ZukoFlow orientation: expected one of density, sampling, got 'up'"),
    ],
)
def test_wrong_options_are_told(name: str, options: dict, message: str) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        vf.make_flow(name, D, C, **options)


def test_unknown_names_have_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"flow of zuko: .*got 'NFS'. Did you mean 'NSF'"):
        vf.make_flow("zuko:NFS", D, C)
    with pytest.raises(UnknownNameError, match="got 'NCSF'"):  # of a torus
        vf.make_flow("zuko:NCSF", D, C)


def test_without_zuko_its_flows_are_not_listed_and_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_flows.flows.adapters.zuko.find_spec", lambda name: None)
    assert not any(name.startswith("zuko:") for name in vf.available_flows())
    with pytest.raises(InvalidInputError, match=r"package zuko: .* Try: pip install 'vae-flows\[zuko\]'"):
        vf.make_flow("zuko:NSF", D, C)


PROBE = """
import sys
import torch
from torch.distributions import Distribution, Normal
from torch.distributions.transforms import Transform, _InverseTransform
import vae_flows as vf
assert "zuko:NSF" in vf.available_flows() and "zuko" not in sys.modules
{first}
def state():
    return vars(Distribution).copy(), _InverseTransform.__name__, torch.get_rng_state().sum(), set(vars(Transform))
before, name, random, methods = state()
flow = vf.flows.find_flow("zuko:NSF")
assert state()[:2] == (before, name)
vf.make_flow("zuko:CNF", 2, 3, exact=False)
assert "zuko" in sys.modules
after, name_after, _, methods_after = state()
assert (after, name_after) == (before, name)
assert methods_after - methods <= {{"call_and_ladj"}}
print(Distribution._validate_args)
"""


@installed
@pytest.mark.parametrize(
    ("first", "validates"),
    [pytest.param("", "True", marks=pytest.mark.slow), pytest.param("import zuko", "False", marks=pytest.mark.slow)],
)
def test_zuko_is_imported_late_and_changes_nothing(first: str, validates: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(first=first)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == validates


@installed
def test_flows_that_compute_while_they_are_built_tell_of_the_meta_device():
    for name in ("zuko:NSF", "pyro:planar"):
        message = f"flow '{name}': expected a device with numbers, .* got the meta device"
        with pytest.raises(InvalidInputError, match=message), torch.device("meta"):
            vf.make_flow(name, D, C)
        assert all(parameter.is_meta for parameter in vf.make_flow(name, D, C).to("meta").parameters())


@installed
@pytest.mark.parametrize("family", ZUKO_FAMILIES)
def test_a_transform_keeps_the_parameters_that_its_flow_was_lent(family: str) -> None:
    reseed()
    check_lent_parameters(ZukoFlow(D, C, family).eval(), torch.randn(B, C), 0.3 * torch.randn(B, D))
