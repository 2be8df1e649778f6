"""Published numbers that reports put beside one's own, and the settings that they were had with.

Those of FFJORD are test −ELBO in nats, of Frey Faces in bits/dim, mean ± standard deviation of three runs. Source:
Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD: Free-form Continuous Dynamics for Scalable Reversible
Generative Models", ICLR 2019, arXiv:1810.01367, Table 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vae_flows.benchmark.presets import PAPER, Preset
from vae_flows.checks import checked
from vae_flows.reporting import Estimate, Reference

__all__ = ["PAPER_RESULTS", "PUBLISHED", "Published", "register_published"]


@checked
@dataclass(frozen=True)
class Published:
    """Results of the literature on one data set.

    Arguments:
        reference: The numbers.
        preset: The settings that they were had with.
    """

    reference: Reference
    preset: Preset


SOURCE = "FFJORD paper, Table 3"
SEEDS = 3
SYLVESTER_NOTE = "The paper gives one number for Sylvester flows, the best of their variants; it stands beside each."
OMNIGLOT_NOTE = (
    "This OMNIGLOT is the project's own reduction and split of the original drawings, not the literature's images: "
    "the paper's column is for orientation only."
)
SYLVESTER = ("sylvester-orthogonal", "sylvester-householder", "sylvester-triangular")

_TABLE = {
    "none": ((86.55, 0.06), (104.28, 0.39), (4.53, 0.02), (110.80, 0.46)),
    "planar": ((86.06, 0.31), (102.65, 0.42), (4.40, 0.06), (109.66, 0.42)),
    "iaf": ((84.20, 0.17), (102.41, 0.04), (4.47, 0.05), (111.58, 0.38)),
    **dict.fromkeys(SYLVESTER, ((83.32, 0.06), (99.00, 0.04), (4.45, 0.04), (104.62, 0.29))),
    "ffjord": ((82.82, 0.01), (98.33, 0.09), (4.39, 0.01), (104.03, 0.43)),
}


def _column(index: int, *notes: str) -> Reference:
    bounds = {posterior: Estimate(*row[index], SEEDS) for posterior, row in _TABLE.items()}
    return Reference(SOURCE, bounds, (SYLVESTER_NOTE, *notes))


PAPER_RESULTS: Mapping[str, Reference] = {
    "mnist-static": _column(0),
    "omniglot-iwae": _column(1),
    "omniglot": _column(1, OMNIGLOT_NOTE),
    "frey-faces": _column(2),
    "caltech101-silhouettes": _column(3),
}
"""By data set; the paper's MNIST is the static binarisation."""

PUBLISHED: dict[str, Published] = {data: Published(reference, PAPER) for data, reference in PAPER_RESULTS.items()}
"""By data set."""


@checked
def register_published(data: str, published: Published) -> None:
    """Have reports put published numbers beside those of a data set, in place of earlier ones."""
    PUBLISHED[data] = published
