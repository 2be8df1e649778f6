"""One valid call of every public callable, with small arguments: a new callable needs a row here.

Rows are named by the folder, or the module beside the folders, that defines the callable: `evaluation.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.valid_calls import (
    benchmark,
    cnf,
    data,
    distributions,
    evaluation,
    export,
    flows,
    guides,
    likelihoods,
    networks,
    reporting,
    root,
    runs,
    testing,
    training,
    transforms,
)
from tests.wrong_values import ValidCall

__all__ = ["VALID"]

VALID: dict[str, Callable[[], ValidCall]] = {
    **benchmark.CALLS,
    **cnf.CALLS,
    **data.CALLS,
    **distributions.CALLS,
    **evaluation.CALLS,
    **export.CALLS,
    **flows.CALLS,
    **guides.CALLS,
    **likelihoods.CALLS,
    **networks.CALLS,
    **reporting.CALLS,
    **root.CALLS,
    **runs.CALLS,
    **testing.CALLS,
    **training.CALLS,
    **transforms.CALLS,
}
