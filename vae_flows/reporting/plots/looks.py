"""How posteriors look: a colour, a line style and a marker for each name, the same in every figure.

The colours are those of Okabe and Ito (2008, "Color universal design") without the yellow, which is too faint for
lines. They can be told apart by every kind of colour vision; in grey, line style and marker tell what colour does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

__all__ = ["COLOURS", "FAINT", "INK", "MUTED", "SHADES", "Look", "looks_of"]

COLOURS = ("#000000", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#D55E00")
INK, MUTED, FAINT = "#333333", "#767676", "#DDDDDD"
SHADES = ("#FFFFFF", "#C6E6F8", "#56B4E9", "#0072B2", "#06304F")
"""From none to most of a density."""

Dashes = str | tuple[int, tuple[float, ...]]


class Look(NamedTuple):
    """How one posterior is drawn: colour, line style and marker as matplotlib takes them."""

    colour: str
    dashes: Dashes
    marker: str


FIXED = {
    "none": Look("#000000", "-", "o"),
    "planar": Look("#56B4E9", (0, (5, 1.5)), "s"),
    "iaf": Look("#E69F00", (0, (5, 1.5, 1, 1.5)), "^"),
    "sylvester-orthogonal": Look("#009E73", (0, (1, 1)), "D"),
    "sylvester-householder": Look("#CC79A7", (0, (3, 1)), "v"),
    "sylvester-triangular": Look("#0072B2", (0, (5, 1.5, 1, 1.5, 1, 1.5)), "P"),
    "ffjord": Look("#D55E00", "-", "X"),
}
OTHERS = tuple(
    Look(colour, dashes, marker)
    for (dashes, marker), colour in itertools.product(
        (((0, (8, 2)), "<"), ((0, (2, 2)), ">"), ((0, (8, 2, 2, 2)), "p"), ((0, (1, 2)), "h"), ("-", "d")), COLOURS
    )
)


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each name, by name in the order given.

    Built-in posteriors have looks of their own. Any other name gets one that depends on the name, and the next free one
    where two names of a figure would get the same. `"ffjord (rank 3)"` is a variant of `"ffjord"`: the first of
    them looks like it, the others share its colour.

    Example:
        >>> looks_of(["ffjord"])["ffjord"] == looks_of(["none", "mine", "ffjord"])["ffjord"]
        True
    """
    names = list(dict.fromkeys(names))
    chosen: dict[str, Look] = {}
    # Fixed looks first, then by name, so that the order of runs does not matter.
    for name in sorted(names, key=lambda name: (name not in FIXED, name)):
        base = name.partition(" (")[0]
        start = crc32(base.encode()) % len(OTHERS)
        own = FIXED.get(base, OTHERS[start])
        others = [*OTHERS[start:], *OTHERS[:start]]
        candidates = [own, *(look for look in others if look.colour == own.colour), *others]
        chosen[name] = next((look for look in candidates if look not in chosen.values()), own)
    return {name: chosen[name] for name in names}
