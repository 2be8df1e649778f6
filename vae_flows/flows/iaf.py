"""Inverse autoregressive flows on masked networks."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_flows.checks import checked
from vae_flows.errors import require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.constants import Constant
from vae_flows.flows.heads import Initialization, require_initialization
from vae_flows.flows.registry import register_flow
from vae_flows.modules import bound
from vae_flows.transforms.autoregressive import InverseAutoregressiveTransform
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.permutations import ReverseTransform

__all__ = ["IAFFlow", "MaskedAutoregressiveNetwork", "MaskedLinear"]

# Smallest logit of the gates at the start, the forget bias included, and the factor on PyTorch's weights behind it.
START_LOGIT = 3.0
START_WEIGHTS = 0.1


class MaskedLinear(nn.Linear):
    """A linear layer whose weights are multiplied by a fixed mask, and which computes in the dtype of its input.

    Arguments:
        mask: `(out_features, in_features)`, true where an output may depend on an input.

    Example:
        >>> layer = MaskedLinear(torch.tensor([[True, False]]))
        >>> bool(layer(torch.tensor([1.0, 5.0])) == layer(torch.tensor([1.0, -5.0])))
        True
    """

    def __init__(self, mask: Tensor) -> None:
        out_features, in_features = mask.shape
        super().__init__(in_features, out_features)
        self._mask = Constant(mask)

    @property
    def mask(self) -> Tensor:
        """The mask, on the device and in the dtype of the weights."""
        return self._mask.value

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name
        weight, bias = (self.weight * self.mask).to(input.dtype), self.bias.to(input.dtype)
        return F.linear(input, weight, bias)


class MaskedAutoregressiveNetwork(nn.Module):
    r"""A masked network in which mean and gate of component d depend on :math:`z_1, \dots, z_{d-1}` and the context.

    The layers are: linear, ELU, + context features, `num_hidden` times linear and ELU, linear. A hidden unit of degree
    k sees the first k components. Degrees run from 0 to D - 1, so that, unlike with the usual 1 to D - 1, the context
    reaches the first component as well.

    Source: Germain et al. (2015), "MADE: masked autoencoder for distribution estimation".

    Arguments:
        latent_dim: D.
        hidden_dim: Width of the hidden layers; below D, some components do not see all of the earlier ones.
        num_hidden: Number of hidden layers behind the one to which the context is added.

    Example:
        >>> network = MaskedAutoregressiveNetwork(latent_dim=4, hidden_dim=16, num_hidden=1)
        >>> mean, gate = network(torch.randn(3, 4), torch.randn(3, 16))
        >>> mean.shape, gate.shape
        (torch.Size([3, 4]), torch.Size([3, 4]))
    """

    def __init__(self, latent_dim: int, hidden_dim: int, num_hidden: int) -> None:
        super().__init__()
        inputs = torch.arange(1, latent_dim + 1, device="cpu")
        hidden = torch.arange(hidden_dim, device="cpu") * latent_dim // hidden_dim
        outputs = torch.arange(latent_dim, device="cpu").repeat(2)
        self.input = MaskedLinear(hidden[:, None] >= inputs)
        self.hidden = nn.ModuleList(MaskedLinear(hidden[:, None] >= hidden) for _ in range(num_hidden))
        self.output = MaskedLinear(outputs[:, None] >= hidden)

    def forward(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map `z (*sample, *batch, D)` and features `(*batch, hidden_dim)` to means and gate logits, as `z`."""
        units = F.elu(self.input(z)) + features.to(z.dtype)
        for layer in self.hidden:
            units = F.elu(layer(units))
        mean, logits = self.output(units).chunk(2, dim=-1)
        return mean, logits


@register_flow("iaf")
class IAFFlow(AmortizedFlow):
    """Gated inverse autoregressive transforms, with the order of the components reversed between layers.

    Drawing takes one evaluation of each layer's network; inverting arbitrary values takes `latent_dim` of them.

    Source: Kingma et al. (2016), "Improving variational inference with inverse autoregressive flow".

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of autoregressive transforms.
        hidden_dim: Width of their networks.
        num_hidden: Number of hidden layers behind the one to which the context's features are added.
        forget_bias: Added to the logits of the gates; larger values start the flow nearer to the identity.
        initialization: `identity` starts near the identity, with the same transform for every context; `published` is
            the literature's start, PyTorch's of linear layers.

    Raises:
        InvalidInputError: A size is not a positive integer, or there is no such initialisation.

    Example:
        >>> flow = IAFFlow(latent_dim=4, context_dim=8, hidden_dim=16)
        >>> flow(torch.randn(3, 8))(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 4])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        *,
        num_layers: int = 4,
        hidden_dim: int = 320,
        num_hidden: int = 1,
        forget_bias: float = 1.0,
        initialization: Initialization = "identity",
    ) -> None:
        super().__init__(latent_dim, context_dim)
        require_positive("IAFFlow", num_layers=num_layers, hidden_dim=hidden_dim, num_hidden=num_hidden)
        require_initialization("IAFFlow", initialization)
        self.num_layers = num_layers
        self.initialization = initialization
        self.hidden_dim = hidden_dim
        self.num_hidden = num_hidden
        self.forget_bias = forget_bias
        self.features = nn.Linear(context_dim, hidden_dim)
        self.networks = nn.ModuleList(
            MaskedAutoregressiveNetwork(latent_dim, hidden_dim, num_hidden) for _ in range(num_layers)
        )
        if initialization == "identity":
            self._start_near_the_identity()

    @torch.no_grad()
    def _start_near_the_identity(self) -> None:
        self.features.weight.zero_()
        for network in self.networks:
            output = cast(MaskedAutoregressiveNetwork, network).output
            output.weight.mul_(START_WEIGHTS)
            mean, logits = output.bias.chunk(2)
            mean.zero_()
            logits.fill_(max(0.0, START_LOGIT - self.forget_bias))

    def transform(self, context: Tensor) -> FusedTransform:
        features = self.features(context)
        batch = context.shape[:-1]
        parts: list[FusedTransform] = []
        for layer, network in enumerate(bound(self.networks)):
            if layer % 2:
                parts.append(ReverseTransform(self.latent_dim, batch))
            parts.append(
                InverseAutoregressiveTransform(
                    partial(network, features=features),
                    self.latent_dim,
                    batch,
                    forget_bias=self.forget_bias,
                    parameters=tuple(network.parameters()),
                    takes_double=True,
                )
            )
        return ChainTransform(parts)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, forget_bias={self.forget_bias}, initialization={self.initialization!r}"
