"""The distribution of a flow posterior: a Gaussian carried by a transform."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import TransformedDistribution  # pyright: ignore[reportAttributeAccessIssue]
from torch import Size, Tensor

__all__ = ["FlowDistribution"]


class FlowDistribution(TransformedDistribution):
    r"""The law of z = T(z₀): :math:`\log q(z) = \log q_0(z_0) - \log|\det \partial T/\partial z_0|`.

    A Pyro distribution with batch shape `*batch` and event shape `(D,)`. Scoring a value that was just drawn costs
    nothing more: the transform remembers it.

    Arguments:
        base_distribution: Distribution of z₀ with event shape `(D,)`.
        transforms: The transform, or a list of them.

    Example:
        >>> import torch
        >>> from pyro.distributions import Normal
        >>> from vae_flows.transforms import IdentityTransform
        >>> base = Normal(torch.zeros(3, 2), 1.0).to_event(1)
        >>> q = FlowDistribution(base, IdentityTransform(2, torch.Size([3])))
        >>> z, log_q = q.rsample_with_log_prob((5,))
        >>> z.shape, log_q.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    @property
    def regularization(self) -> Tensor | None:
        """What the flow's latest evaluation adds to the loss, `(*sample, *batch)`; `None` for nothing."""
        values = [getattr(transform, "regularization", None) for transform in self.transforms]
        found = [value for value in values if value is not None]
        return torch.stack(found).sum(0) if found else None

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z `(*sample, *batch, D)` and return it with log q(z) `(*sample, *batch)`, for the price of one draw."""
        z = self.rsample(Size(sample_shape))
        return z, self.log_prob(z)
