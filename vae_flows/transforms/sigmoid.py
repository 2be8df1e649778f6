"""The map of numbers into the unit interval, between which and pixels a flow of images has to lead."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import all_finite
from vae_flows.transforms.base import FusedTransform

__all__ = ["SigmoidTransform"]


class SigmoidTransform(FusedTransform):
    r"""The map :math:`y = (\sigma(x) - \lambda) / (1 - 2\lambda)` with inverse :math:`\mathrm{logit}(\lambda + (1 -
    2\lambda) y)`.

    The margin λ keeps the logits of 0 and 1 finite (Dinh et al. 2017, section 4.1; Papamakarios et al. 2017).

    Arguments:
        latent_dim: D, or `None` where any will do.
        margin: λ, above 0 and below 1/2.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: The margin is out of range, or values at or beyond −λ/(1 − 2λ) and 1 + λ/(1 − 2λ).

    Example:
        >>> transform = SigmoidTransform(2, margin=0.05)
        >>> transform.inv(torch.tensor([0.0, 0.5])).round(decimals=4)
        tensor([-2.9444,  0.0000])
    """

    takes_double = True

    @checked
    def __init__(self, latent_dim: int | None, margin: float = 1e-6, *, cache_size: int = 1) -> None:
        if not 0 < margin < 0.5:
            raise InvalidInputError(complaint("SigmoidTransform margin", "a number between 0 and 1/2", margin))
        super().__init__(latent_dim, Size(), cache_size=cache_size)
        self.margin = margin

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def codomain(self) -> constraints.Constraint:
        reach = self.margin / (1 - 2 * self.margin)
        return constraints.independent(constraints.interval(-reach, 1 + reach), 1)

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (torch.sigmoid(x) - self.margin) / (1 - 2 * self.margin)
        return y, self._log_det(x)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        share = self.margin + (1 - 2 * self.margin) * y
        x = share.log() - (-share).log1p()
        if all_finite(x) is False:
            reach = self.margin / (1 - 2 * self.margin)
            expected = f"numbers above {-reach:.3g} and below {1 + reach:.3g}"
            got = f"{y.min().item():.6g} to {y.max().item():.6g}"
            remedy = "Scale pixels to between 0 and 1."
            raise InvalidInputError(complaint("values of SigmoidTransform", expected, got, remedy))
        return x, self._log_det(x)

    def _log_det(self, x: Tensor) -> Tensor:
        # σ' = σ(x) σ(−x)
        rates = F.logsigmoid(x) + F.logsigmoid(-x)
        scale = torch.tensor(1 - 2 * self.margin, dtype=torch.float64).log().item()
        return rates.sum(-1) - x.shape[-1] * scale
