"""Butcher tableaus of the explicit Runge-Kutta methods, as Hairer, Nørsett and Wanner write them (1993, chapter II)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TABLEAUS", "Tableau"]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method.

    Arguments:
        order: Order of the solution that is carried on.
        nodes: c_i, the stages' places in a step.
        stages: a_ij for j < i, one row a stage; the first is empty.
        weights: b_i of the solution.
        error_weights: b_i − b̂_i, whose combination of stages estimates the error; empty where steps are fixed.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    error_weights: tuple[float, ...] = ()

    @property
    def is_adaptive(self) -> bool:
        """Whether there is an error estimate to adapt the step to."""
        return bool(self.error_weights)

    @property
    def reuses_last_stage(self) -> bool:
        """Whether the last stage is the next step's first ("first same as last"): b is its row, its own b is 0."""
        return self.nodes[-1] == 1 and self.weights[-1] == 0 and self.weights[:-1] == self.stages[-1]

    @property
    def solution_stages(self) -> int:
        """How many stages the solution depends on: the last one of "first same as last" is the next step's."""
        return len(self.nodes) - self.reuses_last_stage


_DOPRI5_SOLUTION = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_BOSH3_SOLUTION = (2 / 9, 1 / 3, 4 / 9)

TABLEAUS: dict[str, Tableau] = {
    # Dormand & Prince 1980; the error weights are Shampine's (1986), as torchdiffeq uses them.
    "dopri5": Tableau(
        order=5,
        nodes=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        stages=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            _DOPRI5_SOLUTION,
        ),
        weights=(*_DOPRI5_SOLUTION, 0.0),
        error_weights=(
            35 / 384 - 1951 / 21600,
            0.0,
            500 / 1113 - 22642 / 50085,
            125 / 192 - 451 / 720,
            -2187 / 6784 + 12231 / 42400,
            11 / 84 - 649 / 6300,
            -1 / 60,
        ),
    ),
    # Bogacki & Shampine 1989
    "bosh3": Tableau(
        order=3,
        nodes=(0, 1 / 2, 3 / 4, 1),
        stages=((), (1 / 2,), (0.0, 3 / 4), _BOSH3_SOLUTION),
        weights=(*_BOSH3_SOLUTION, 0.0),
        error_weights=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    ),
    # Fehlberg 1969, order 1(2)
    "fehlberg2": Tableau(
        order=2,
        nodes=(0, 1 / 2, 1),
        stages=((), (1 / 2,), (1 / 256, 255 / 256)),
        weights=(1 / 512, 255 / 256, 1 / 512),
        error_weights=(-1 / 512, 0.0, 1 / 512),
    ),
    "adaptive_heun": Tableau(
        order=2, nodes=(0, 1), stages=((), (1.0,)), weights=(1 / 2, 1 / 2), error_weights=(1 / 2, -1 / 2)
    ),
    "euler": Tableau(order=1, nodes=(0,), stages=((),), weights=(1.0,)),
    "midpoint": Tableau(order=2, nodes=(0, 1 / 2), stages=((), (1 / 2,)), weights=(0.0, 1.0)),
    "heun2": Tableau(order=2, nodes=(0, 1), stages=((), (1.0,)), weights=(1 / 2, 1 / 2)),
    "heun3": Tableau(
        order=3, nodes=(0, 1 / 3, 2 / 3), stages=((), (1 / 3,), (0.0, 2 / 3)), weights=(1 / 4, 0.0, 3 / 4)
    ),
    # Kutta's 3/8 rule, which torchdiffeq calls rk4
    "rk4": Tableau(
        order=4,
        nodes=(0, 1 / 3, 2 / 3, 1),
        stages=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        weights=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}
