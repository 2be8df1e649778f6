r"""Units of bounds: nats, or bits per dimension of values of which each is one of finitely many."""

from __future__ import annotations

import math
from typing import NamedTuple

from vae_flows.checks import checked
from vae_flows.data import DataSet, Examples
from vae_flows.likelihoods import Likelihood

__all__ = ["NATS", "Unit", "bits_per_dim", "log_bin_size_of", "unit_of"]


class Unit(NamedTuple):
    """A unit in which bounds are told.

    Arguments:
        name: Such as `"nats"` or `"bits/dim"`.
        nats: How many nats of a bound it is.
        zero: The bound, in nats, that is 0 in it.
    """

    name: str
    nats: float
    zero: float = 0.0

    def of(self, nats: float) -> float:
        """Return a bound of −log p(x) in this unit, from nats."""
        return (nats - self.zero) / self.nats

    def worded(self, nats: float) -> str:
        """Return a bound in nats, and in this unit where it is another.

        Example:
            >>> NATS.worded(120.0), bits_per_dim(100).worded(120.0)
            ('120.00 nats', '120.00 nats = 1.7312 bits/dim')
        """
        also = "" if self == NATS else f" = {self.of(nats):.4f} {self.name}"
        return f"{nats:.2f} nats{also}"


NATS = Unit("nats", 1.0)


@checked
def bits_per_dim(num_dimensions: int, log_bin_size: float = 0.0) -> Unit:
    r"""Return the unit bits per dimension.

    A value that is one of several equidistant ones stands for the bin around it, of size :math:`\Delta`: a density of
    x gives it the probability :math:`p(x) \Delta`, and D values :math:`p(x) \Delta^D`. Their bits per dimension are
    :math:`-\log_2 (p(x) \Delta^D) / D = (-\log p(x) / D - \log \Delta) / \log 2`.

    Source: Theis, van den Oord and Bethge (2016), "A note on the evaluation of generative models", section 3.1, where
    noise takes the place of the bin.

    Arguments:
        num_dimensions: D, values of an example.
        log_bin_size: log Δ in the unit of x, such as `Likelihood.log_bin_size` gives; 0 for probabilities, for
            integers, and for values that are not known to be levels, whose bits are those of the density.

    Example:
        >>> bits_per_dim(2, math.log(1 / 4)).of(0.0)  # a density of 1 on the unit square, in 16 bins
        2.0
    """
    return Unit("bits/dim", num_dimensions * math.log(2), num_dimensions * log_bin_size)


@checked
def log_bin_size_of(likelihood: Likelihood, examples: Examples) -> float:
    """Return log of the size of the bin that each value of some examples stands for, in nats per value.

    0 where the likelihood gives probabilities, or the examples are not known to be levels.
    """
    return 0.0 if examples.levels is None else likelihood.log_bin_size(examples.levels)


@checked
def unit_of(data: DataSet, num_dimensions: int, log_bin_size: float) -> Unit:
    """Return the unit in which the literature reports a kind of data: bits per dimension of levels, else nats.

    Arguments:
        data: What was tested on.
        num_dimensions: Values of an example.
        log_bin_size: As of `bits_per_dim`.
    """
    are_levels = data.pixels == "grey" or (data.test.levels or 0) > 2
    return bits_per_dim(num_dimensions, log_bin_size) if are_levels else NATS
