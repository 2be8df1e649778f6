"""What training maximises, by name; validation is the ELBO whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vae_flows.checks import require_finite
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.objectives import ELBO, GradientEstimator

if TYPE_CHECKING:
    from torch import Tensor

    from vae_flows.vae import VAE

__all__ = ["OBJECTIVES", "Objective", "ObjectiveName"]

ObjectiveName = Literal["elbo", "beta", "importance_weighted", "renyi"]
OWNER = "TrainingSettings objective_options"


@dataclass(frozen=True)
class Objective:
    """`elbo`: the evidence lower bound. Others are subclasses whose fields are their options."""

    @property
    def kl_weight(self) -> float:
        """What β is after the warm-up."""
        return 1.0

    def check(self, num_particles: int) -> None:
        """Check the options.

        Raises:
            InvalidInputError: One is missing or out of range, or there are too few particles.
        """

    def terms(self, vae: VAE, x: Tensor, num_particles: int, beta: float, gradient: GradientEstimator) -> ELBO:
        """Return the bound of each example and its terms."""
        return vae.elbo(x, num_particles, beta, gradient)


@dataclass(frozen=True)
class BetaObjective(Objective):
    """`beta`: the ELBO with another weight of the KL term (Higgins et al. 2017, "beta-VAE").

    Arguments:
        beta: That weight; it must be given.
    """

    beta: float | None = None

    @property
    def kl_weight(self) -> float:
        return 1.0 if self.beta is None else self.beta

    def check(self, num_particles: int) -> None:
        require_finite(OWNER, above=0.0, beta=self.beta)


@dataclass(frozen=True)
class ImportanceWeightedObjective(Objective):
    """`importance_weighted`: E[log mean w] (Burda et al. 2016), its weights annealed in the warm-up of β."""

    def check(self, num_particles: int) -> None:
        _require_particles("importance_weighted", num_particles)

    def terms(self, vae: VAE, x: Tensor, num_particles: int, beta: float, gradient: GradientEstimator) -> ELBO:
        return vae.renyi_terms(x, 0.0, num_particles, beta, gradient)


@dataclass(frozen=True)
class RenyiObjective(Objective):
    """`renyi`: the Rényi bound (Li & Turner 2016), its weights annealed in the warm-up of β.

    Arguments:
        alpha: The order, any finite number; it must be given.
    """

    alpha: float | None = None

    def check(self, num_particles: int) -> None:
        require_finite(OWNER, alpha=self.alpha)
        _require_particles("renyi", num_particles)

    def terms(self, vae: VAE, x: Tensor, num_particles: int, beta: float, gradient: GradientEstimator) -> ELBO:
        return vae.renyi_terms(x, 1.0 if self.alpha is None else self.alpha, num_particles, beta, gradient)


OBJECTIVES: Mapping[str, type[Objective]] = {
    "elbo": Objective,
    "beta": BetaObjective,
    "importance_weighted": ImportanceWeightedObjective,
    "renyi": RenyiObjective,
}


def _require_particles(objective: str, num_particles: int) -> None:
    if num_particles < 2:
        subject, remedy = f"TrainingSettings num_particles of objective {objective!r}", "Of one it is the ELBO."
        raise InvalidInputError(complaint(subject, "at least 2", num_particles, remedy))
