"""The guide of named local sites, for models whose sites are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import constraints

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.guides.batch import EncoderInputs, encode, encoder_inputs_of, made_plate
from vae_flows.guides.model_sites import check_sites, find_local_sites, trace_model
from vae_flows.guides.packing import PackingName, SitePacking, as_module, posteriors_of, total_work
from vae_flows.guides.sites import LocalSite
from vae_flows.ode.work_counts import WorkCount
from vae_flows.protocols import size_of
from vae_flows.pyro_modules import registered

__all__ = ["FlowGuide"]


class FlowGuide(PyroModule):
    r"""A Pyro guide of local latent sites: q(z | encoder(x)), in a plate over the batch.

    The guide takes the model's arguments and encodes the first of them. Values are drawn and scored by one solve.

    Objectives that average weights p / q, such as `RenyiELBO` with several particles, `ReweightedWakeSleep` and
    `Importance`, need an exact log q. In training mode a continuous flow then takes the exact trace, if it costs about
    what the estimate does; otherwise a `BiasedBoundWarning` is given: call `eval()`, or make the flow with
    `divergence="exact"`.

    Arguments:
        encoder: Maps the inputs `(B, …)` to contexts `(B, context_dim)`.
        posterior: Maps contexts to q over unconstrained values: an `AmortizedPosterior`, or any module that is what
            `vae_flows.protocols.Posterior` says; a sequence of one for each site, in order, where `packing` is not
            `joint`.
        site: Name of the model's latent site, a real vector `(latent_dim,)`; or a `LocalSite`, or several, in the
            model's order, with their shapes and supports.
        plate: Name of the model's plate around the sites, at dimension -1 and of the size of the batch; or a callable
            that takes the model's arguments and returns the plate, at another dimension or with a subsample. Model and
            guide share the subsample, and the encoder sees only its rows. In an `AutoGuideList` called `guides`, which
            makes the plates itself, it is `lambda *args: guides.plates["data"]`.
        packing: `joint`, one flow over all sites; `separate`, one for each; or `autoregressive`, where the flow of
            each site takes as context the encoder's and the unconstrained values of the sites before.
        encoder_inputs: Picks the encoder's inputs from the model's arguments, a tensor or several.

    Raises:
        InvalidInputError: Flows whose sizes are not those of the sites; when called, an encoder that returns another
            shape than `(B, context_dim)`, or a batch of another size than the plate's.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.distributions import Gamma, Normal
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        ...         scale = pyro.sample("scale", Gamma(2.0, 2.0))
        ...         pyro.sample("x", Normal(z, scale.unsqueeze(-1)).to_event(1), obs=x)
        >>> sites = [LocalSite("z", (2,)), LocalSite("scale", (), constraints.positive)]
        >>> guide = FlowGuide(nn.Linear(2, 8), AmortizedPosterior(3, 8, hidden_dims=(8,)), sites)
        >>> x = torch.randn(6, 2)
        >>> guide.check(model, x)
        >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        >>> isinstance(svi.step(x), float)
        True
    """

    @checked
    def __init__(
        self,
        encoder: nn.Module,
        posterior: nn.Module | Sequence[nn.Module],
        site: str | LocalSite | Sequence[LocalSite] = "z",
        plate: str | Callable[..., pyro.plate] = "data",
        *,
        packing: PackingName = "joint",
        encoder_inputs: EncoderInputs | None = None,
    ) -> None:
        is_sequence = isinstance(posterior, Sequence | nn.ModuleList)
        posteriors: list[nn.Module] = list(posterior) if is_sequence else [posterior]
        if isinstance(site, str):
            site = LocalSite(site, (_latent_dim(site, posteriors),), constraints.real_vector)
        sites = (site,) if isinstance(site, LocalSite) else tuple(site)
        super().__init__(name="_".join(site.name for site in sites))
        self.packing = SitePacking(sites, packing)
        self.context_dim = self.packing.check_posteriors(posteriors)
        self.encoder = encoder
        self.posterior = as_module(posteriors)
        self.plate = plate
        self.encoder_inputs = encoder_inputs

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest solves, of all flows together; `None` for flows that make none."""
        return total_work(self.posterior)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sample the sites given the model's arguments, and return their values by name."""
        inputs = encoder_inputs_of(self._owner, self.encoder_inputs, args, kwargs)
        plate = self._make_plate(inputs, args, kwargs)
        encoder, posterior = registered(self, "encoder"), registered(self, "posterior")
        with plate:
            context = encode(self._owner, encoder, inputs, plate, self.context_dim)
            return self.packing.sample(posteriors_of(posterior), context)

    @checked
    def check(self, model: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Compare the guide with a model, which is run once.

        Global sites of the model, outside of the plate, are not this guide's matter.

        Arguments:
            model: The model.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            InvalidInputError: A site is missing on either side, or differs in plate, shape or support.
        """
        inputs = encoder_inputs_of(self._owner, self.encoder_inputs, args, kwargs)
        with poutine.block():
            plate = self._make_plate(inputs, args, kwargs)
        trace = trace_model(model, args, kwargs)
        found = find_local_sites(self._owner, trace, plate.name)
        wanted = (found.frame.size, found.frame.full_size or found.frame.size)
        if (plate.subsample_size, plate.size) != wanted or plate.dim not in (None, found.frame.dim):
            raise InvalidInputError(
                complaint(
                    f"{self._owner} plate {plate.name!r}",
                    f"{wanted[0]} of {wanted[1]} rows at dimension {found.frame.dim}, as in the model",
                    f"{plate.subsample_size} of {plate.size} at {plate.dim}",
                    "Give plate=lambda *args, **kwargs: pyro.plate(…).",
                )
            )
        check_sites(self._owner, trace, found, self.packing.sites)

    @property
    def _owner(self) -> str:
        return f"FlowGuide of {self.packing.describe()}"

    def _make_plate(self, inputs: Sequence[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> pyro.plate:
        if callable(self.plate):
            return made_plate(self._owner, self.plate, args, kwargs)
        return pyro.plate(self.plate, len(inputs[0]), dim=-1)


def _latent_dim(site: str, posteriors: Sequence[nn.Module]) -> int:
    sizes = [size_of(posterior) for posterior in posteriors]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        remedy = f"Give site=LocalSite({site!r}, (latent_dim,), constraints.real_vector)."
        raise InvalidInputError(complaint("posterior of FlowGuide", "the attribute latent_dim", "none", remedy))
    return sum(known)
