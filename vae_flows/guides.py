"""Flow posteriors as guides of the user's own Pyro models."""

from __future__ import annotations

from typing import cast

import pyro
from pyro.nn import PyroModule
from torch import Tensor, nn

from vae_flows.errors import InvalidInputError, complaint
from vae_flows.posterior import AmortizedPosterior
from vae_flows.pyro_modules import register_module

__all__ = ["FlowGuide"]


class FlowGuide(PyroModule):
    """A Pyro guide that samples one local latent site from q(z | encoder(x)), in a plate over the batch.

    The guide takes the model's arguments and encodes the first of them.

    Arguments:
        encoder: Maps the first argument `(B, …)` to contexts `(B, context_dim)`.
        posterior: Maps contexts to q.
        site: Name of the model's latent site, which has event shape `(latent_dim,)`.
        plate: Name of the model's plate around the site, at dimension -1.

    Raises:
        InvalidInputError: The encoder returns another shape than `(B, context_dim)`.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.distributions import Normal
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        ...         pyro.sample("x", Normal(z, 0.5).to_event(1), obs=x)
        >>> guide = FlowGuide(nn.Linear(2, 8), AmortizedPosterior(2, 8, flow="planar"), site="z")
        >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        >>> isinstance(svi.step(torch.randn(6, 2)), float)
        True
    """

    def __init__(self, encoder: nn.Module, posterior: AmortizedPosterior, site: str = "z", plate: str = "data") -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.site = site
        self.plate = plate

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Sample the site given x; further arguments are the model's and not used."""
        del args, kwargs
        register_module(f"{self.site}.encoder", self.encoder)
        register_module(f"{self.site}.posterior", self.posterior)
        q = self.posterior(self.encoder(x))
        if len(q.batch_shape) != 1:
            raise InvalidInputError(
                complaint(
                    f"FlowGuide encoder of site {self.site!r}",
                    f"contexts of shape (B, {self.posterior.context_dim})",
                    f"batch shape {tuple(q.batch_shape)} for an input of shape {tuple(x.shape)}",
                )
            )
        with pyro.plate(self.plate, q.batch_shape[0], dim=-1):
            return cast(Tensor, pyro.sample(self.site, q))
