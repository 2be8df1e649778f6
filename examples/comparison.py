"""What every example ends with: the bounds of several posteriors, and the gain of each over the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Comparison", "Estimate"]

NOISE = 2  # standard errors below which a gain is not told from none


class Estimate(NamedTuple):
    """A mean and its standard error.

    Example:
        >>> import torch
        >>> print(Estimate.of(torch.tensor([1.0, 2.0, 3.0])))
        2.00 ± 0.58
    """

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Average independent values `(N,)`, two or more."""
        return cls(values.mean().item(), values.std().item() / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.standard_error:.2f}"


@dataclass(frozen=True)
class Comparison:
    """Bounds of several posteriors on the same observations.

    The errors are those of averages over observations. They do not hold the spread over seeds of training.

    Arguments:
        title: What was bounded.
        bounds: Of each posterior, the one to compare with first, an ELBO of each observation `(N,)`, in nats.

    Example:
        >>> import torch
        >>> bounds = {"Gaussian": torch.tensor([-9.0, -7.0]), "flow": torch.tensor([-8.5, -6.3])}
        >>> print(Comparison("Toy", bounds))
        Toy: ELBO in nats, mean ± standard error of 2
        <BLANKLINE>
        | | ELBO | gain over Gaussian |
        |:---|---:|---:|
        | Gaussian | -8.00 ± 1.00 | |
        | flow | -7.40 ± 1.10 | 0.60 ± 0.10 |
    """

    title: str
    bounds: Mapping[str, Tensor]

    @property
    def gains(self) -> dict[str, Estimate]:
        """What each posterior but the first gains over it, averaged over paired differences."""
        (_, first), *others = self.bounds.items()
        return {name: Estimate.of(bound - first) for name, bound in others}

    def __str__(self) -> str:
        first, count = next(iter(self.bounds)), len(next(iter(self.bounds.values())))
        lines = [
            f"{self.title}: ELBO in nats, mean ± standard error of {count:,}",
            "",
            f"| | ELBO | gain over {first} |",
            "|:---|---:|---:|",
        ]
        for name, bound in self.bounds.items():
            gain = self.gains.get(name)
            lines.append(f"| {name} | {Estimate.of(bound)} | {_worded(gain) + ' ' if gain else ''}|")
        return "\n".join(lines)


def _worded(gain: Estimate) -> str:
    if abs(gain.mean) < NOISE * gain.standard_error:
        return f"{gain} (within noise)"
    return f"{gain} (a loss)" if gain.mean < 0 else str(gain)
