"""Every posterior has a look of its own, with and without colour."""

import numpy as np
from matplotlib.colors import to_rgb

from tests.reporting.plots.figures import RUNS
from vae_flows.reporting import (
    plot_curves,
    plot_results,
    summarize,
)
from vae_flows.reporting.plots.looks import FIXED, OTHERS, looks_of


def test_a_posterior_has_one_look_in_all_figures():
    lines = plot_curves(RUNS).axes[0].lines
    bars = plot_results(RUNS, summarize(RUNS)["mnist"]).axes[0].lines
    assert [line.get_color() for line in lines] == [bars[0].get_color(), bars[-1].get_color()]
    assert [line.get_color() for line in lines] == [FIXED["none"].colour, FIXED["iaf"].colour]
    assert looks_of(["zuko:NSF", "none"])["zuko:NSF"] == looks_of(["pyro:radial", "zuko:NSF"])["zuko:NSF"]


def test_looks_of_one_figure_differ_without_colour():
    names = [*FIXED, "mine", "zuko:NSF", "ffjord (rank 3)", "ffjord (rank 20)"]
    looks = looks_of(names)
    assert list(looks) == names
    assert len(set(looks.values())) == len(names)
    assert len({(look.dashes, look.marker) for name, look in looks.items() if name in FIXED}) == len(FIXED)
    assert looks["ffjord (rank 3)"].colour == looks["ffjord"].colour


def test_colours_of_built_in_posteriors_differ_in_grey():
    # Luminance of ITU-R BT.709. Neighbours that are near each other have other dashes and markers.
    greys = sorted(float(np.dot(to_rgb(look.colour), [0.2126, 0.7152, 0.0722])) for look in FIXED.values())
    assert greys[-1] - greys[0] > 0.5
    assert all(look not in FIXED.values() for look in OTHERS)
