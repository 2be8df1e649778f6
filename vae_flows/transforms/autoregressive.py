"""The inverse autoregressive transform and its sequential inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.tensors.known_values import known
from vae_flows.tensors.precision import at_least_single, or_double
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.double_inverse import invert_in_double

__all__ = ["AutoregressiveNetwork", "InverseAutoregressiveTransform"]

AutoregressiveNetwork = Callable[[Tensor], tuple[Tensor, Tensor]]


class InverseAutoregressiveTransform(FusedTransform):
    r"""The gated autoregressive transform :math:`y = g \odot z + (1 - g) \odot m` with m and g functions of z.

    The gates are :math:`g = \sigma(s + \text{forget bias})`, the log-determinant is :math:`\sum_d \log g_d`. Component
    d of m and s may depend on :math:`z_1, \dots, z_{d-1}` only, so the forward map is one evaluation of the network and
    the inverse D of them, one a component.

    Source: Kingma et al. (2016), "Improving variational inference with inverse autoregressive flow", algorithm 1.

    Arguments:
        network: Maps `z (*sample, *batch, D)` to the means m and the gates' logits s, both of that shape, and is
            autoregressive in the order of the components.
        latent_dim: D.
        batch_shape: Batch shape of what the network has captured.
        forget_bias: Added to the logits; a positive value starts the transform near the identity.
        parameters: Tensors inside the network that may be changed in place, such as its weights.
        takes_double: Whether the network computes in the dtype that it is given, whatever that of its weights: inverses
            are then computed in float64, as D steps that multiply errors need it.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: The inverse raises it where it leaves the range of the dtype.

    Example:
        >>> def network(z):
        ...     earlier = z.cumsum(-1) - z
        ...     return earlier.sin(), earlier.cos()
        >>> transform = InverseAutoregressiveTransform(network, latent_dim=5)
        >>> y = torch.linspace(-3, 3, 5, dtype=torch.float64)
        >>> bool(torch.allclose(transform(transform.inv(y)), y))
        True
    """

    @checked
    def __init__(
        self,
        network: AutoregressiveNetwork,
        latent_dim: int,
        batch_shape: Sequence[int] = (),
        *,
        forget_bias: float = 1.0,
        parameters: Sequence[Tensor] = (),
        takes_double: bool = False,
        cache_size: int = 1,
    ) -> None:
        super().__init__(latent_dim, batch_shape, cache_size=cache_size)
        self._network = network
        self._forget_bias = forget_bias
        self._parameters = tuple(parameters)
        self.takes_double = takes_double

    def dependencies(self) -> Sequence[Tensor]:
        return self._parameters

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = at_least_single(x) if self.takes_double else x
        mean, log_gate = self._mean_and_log_gate(z)
        return torch.lerp(mean, z.expand(mean.shape), log_gate.exp()).to(x.dtype), log_gate.sum(-1).to(x.dtype)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return invert_in_double(self, self._invert, y) if self.takes_double else self._invert(y)

    def _invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y.expand(self.broadcast_shape(y) + y.shape[-1:])
        x, log_det = torch.zeros_like(y), y.new_zeros(y.shape[:-1])
        for d in range(y.shape[-1]):
            mean, log_gate = (output[..., d] for output in self._mean_and_log_gate(x))
            x = torch.select_scatter(x, mean + (y[..., d] - mean) * torch.exp(-log_gate), dim=-1, index=d)
            log_det = log_det + log_gate
        if known(x.isfinite()) is False:
            raise InvalidInputError(
                complaint(
                    "inverse of InverseAutoregressiveTransform",
                    f"finite latents that {y.dtype} can map back",
                    "values that are not finite, or overflow where gates are nearly closed",
                    f"Score values nearer to the transform's own, take a larger forget_bias{or_double(y.dtype)}.",
                )
            )
        return x, log_det

    def _mean_and_log_gate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        emitted = self._network(z)
        if not isinstance(emitted, (tuple, list)) or len(emitted) != 2:
            raise InvalidInputError(complaint("network", "a pair of means and logits", described(emitted)))
        mean, logits = emitted
        return mean, F.logsigmoid(logits + self._forget_bias)
