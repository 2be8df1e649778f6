"""Flows of other packages by entry points, found in distributions as installers leave them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_flows as vf
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import IdentityFlow, find_flow, registry

MODULE = """
from vae_flows.flows import IdentityFlow

class PluginFlow(IdentityFlow):
    pass

class SizedFlow(IdentityFlow):
    def __init__(self, latent_dim, context_dim, *, num_bins, slope=1.0):
        super().__init__(latent_dim, context_dim)
        self.num_bins = num_bins + 0
        self.slope = slope

not_a_flow = 3
"""
ENTRY_POINTS = """
[vae_flows.flows]
plugin = plugin_of_flows:PluginFlow
plugin-sized = plugin_of_flows:SizedFlow
plugin-moved = plugin_of_flows:MovedFlow
plugin-gone = plugin_that_is_gone:PluginFlow
plugin-number = plugin_of_flows:not_a_flow
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution on the path, and the registry as it was afterwards."""
    (tmp_path / "plugin_of_flows.py").write_text(MODULE)
    metadata = tmp_path / "plugin_of_flows-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-flows\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("plugin_of_flows", None)


@pytest.mark.usefixtures("plugin")
def test_a_flow_of_another_package_is_found_and_loaded_when_it_is_made() -> None:
    assert "plugin" in vf.available_flows()
    assert "plugin_of_flows" not in sys.modules
    posterior = vf.AmortizedPosterior(4, 3, "plugin")
    assert posterior.flow_name == "plugin"
    assert type(posterior.flow).__module__ == "plugin_of_flows"
    assert isinstance(vf.make_flow("plugin", 4, 3), IdentityFlow)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plugin-moved", "flow 'plugin-moved': expected a class at the entry point 'plugin_of_flows:MovedFlow'"),
        ("plugin-gone", "No module named 'plugin_that_is_gone'"),
        ("plugin-number", "flow 'plugin-number': expected a subclass of AmortizedFlow, got 3"),
    ],
)
def test_entry_points_that_lead_nowhere_are_told(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        find_flow(name)


@pytest.mark.usefixtures("plugin")
def test_options_of_a_flow_of_another_package_are_its_own() -> None:
    assert vars(vf.make_flow("plugin-sized", 4, 3, num_bins=8))["num_bins"] == 8
    assert vars(vf.AmortizedPosterior(4, 3, "plugin-sized", num_bins=8, slope=0.5).flow)["slope"] == 0.5
    for options, got in (
        ({"num_bin": 8}, r"'num_bin'. Did you mean 'num_bins'\?"),
        ({"slope": 0.5}, "none of the name 'num_bins', which it needs"),
    ):
        message = rf"flow 'plugin-sized' does not take these options .*: expected num_bins, slope, got {got}"
        with pytest.raises(InvalidInputError, match=message):
            vf.make_flow("plugin-sized", 4, 3, **options)
        with pytest.raises(InvalidInputError, match=message):
            vf.AmortizedPosterior(4, 3, "plugin-sized", **options)


@pytest.mark.usefixtures("plugin")
def test_an_error_inside_of_a_flow_of_another_package_stays_its_own() -> None:
    with pytest.raises(TypeError, match="can only concatenate str"):
        vf.make_flow("plugin-sized", 4, 3, num_bins="8")


def test_without_the_package_the_name_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="got 'plugin'"):
        find_flow("plugin")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(InvalidInputError, match="flow 'planar': expected a free name, got one taken by PlanarFlow"):
        vf.register_flow("planar")(IdentityFlow)


def test_names_are_sorted_and_name_flows_of_other_libraries() -> None:
    names = vf.available_flows()
    assert list(names) == sorted(names)
    assert {"ffjord", "pyro:planar", "pyro:spline_autoregressive"} <= set(names)
