"""The amortised guide that finds a model's local sites by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.flows.base import AmortizedFlow
from vae_flows.guides.batch import EncoderInputs, check_contexts, encode, encoder_inputs_of, made_plate
from vae_flows.guides.model_sites import check_sites, find_local_sites, trace_model
from vae_flows.guides.packing import PackingName, SitePacking, posteriors_of, total_work
from vae_flows.ode.work_counts import WorkCount
from vae_flows.pyro_modules import registered

__all__ = ["AmortizedAutoGuide"]


class AmortizedAutoGuide(AutoGuide):
    r"""A Pyro autoguide of a model's local latent sites: q(z | encoder(x)) by normalizing flows.

    The first call, or `setup`, traces the model and makes flows for the latent sites inside the plate over the batch,
    real or constrained, of any event shape. What the sites' supports depend on must be constant. The model is traced
    again for each new number of rows, and each new integer or string among its arguments, to know the plate's sizes.

    Sites outside of plates are global and left to a guide beside this one, in an `AutoGuideList` or in a function that
    calls both. Local values do not depend on global ones in this guide. A list makes the plates for all its guides, of
    the sizes of its first call: where batches differ in size it needs `create_plates`.

    Of objectives that average weights p / q, such as `RenyiELBO`, `FlowGuide` tells what a continuous flow does.

    Arguments:
        model: The model.
        encoder: Maps the inputs `(B, …)` to contexts `(B, context_dim)`.
        flow: Name of a flow; or an `AmortizedFlow` of the sites' size, for `packing="joint"`.
        context_dim: Size of the contexts; that of the encoder's output at the first call by default.
        packing: `joint`, one flow over all sites; `separate`, one for each; or `autoregressive`, where the flow of
            each site takes as context the encoder's and the unconstrained values of the sites before.
        plate: Name of the plate over the batch, needed where several plates have latent sites; or a callable that
            takes the model's arguments and returns the plate, needed where it draws its subsample in a way of its own.
        encoder_inputs: Picks the encoder's inputs from the model's arguments, a tensor or several, of as many rows as
            the plate or its subsample; the first argument by default.
        **flow_options: Options of `AmortizedPosterior` and of the flow.

    Raises:
        InvalidInputError: When called: no local site; several plates; a site in further plates; a discrete site; a
            flow, encoder or batch of another size.
        UnknownNameError: An unknown flow, packing or plate.

    Example:
        A local site for each row and a global one, which Pyro's `AutoNormal` takes:

        >>> from pyro import poutine
        >>> from pyro.distributions import Gamma, Normal
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.infer.autoguide import AutoGuideList, AutoNormal
        >>> def model(x):
        ...     scale = pyro.sample("scale", Gamma(2.0, 2.0))
        ...     with pyro.plate("data", len(x)):
        ...         rate = pyro.sample("rate", Gamma(1.0, 1.0))
        ...         pyro.sample("x", Normal(rate, scale), obs=x[:, 0])
        >>> guide = AutoGuideList(model)
        >>> guide.append(AutoNormal(poutine.block(model, hide=["rate"])))
        >>> guide.append(AmortizedAutoGuide(model, nn.Linear(1, 4), flow="ffjord", hidden_dims=(8,)))
        >>> svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        >>> x = torch.rand(6, 1)
        >>> isinstance(svi.step(x), float)
        True
        >>> {name: tuple(value.shape) for name, value in guide(x).items()}
        {'scale': (), 'rate': (6,)}
    """

    @checked
    def __init__(
        self,
        model: Callable[..., Any],
        encoder: nn.Module,
        flow: str | AmortizedFlow = "ffjord",
        context_dim: int | None = None,
        packing: PackingName = "joint",
        plate: str | Callable[..., pyro.plate] | None = None,
        *,
        encoder_inputs: EncoderInputs | None = None,
        **flow_options: Any,
    ) -> None:
        super().__init__(model)
        self.encoder = encoder
        self.posterior: nn.Module | None = None
        self.packing: SitePacking | None = None
        self.context_dim = context_dim
        self.encoder_inputs = encoder_inputs
        self._flow = (flow, flow_options)  # in a tuple, for a flow joins the guide's modules in its posterior
        self._packing_name: PackingName = packing
        self._plate = plate
        self._frames: dict[Hashable, CondIndepStackFrame] = {}

    @property
    def last_solve(self) -> WorkCount | None:
        """Work of the latest solves, of all flows together; `None` before the first and for flows that make none."""
        return None if self.posterior is None else total_work(self.posterior)

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Trace the model and make the flows, as the first call does: before `parameters()` or `load_state_dict`.

        Arguments:
            *args: The model's arguments.
            **kwargs: Its keyword arguments.
        """
        self._setup_prototype(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Sample the local sites given the model's arguments, and return their values by name."""
        if self.packing is None:
            self.setup(*args, **kwargs)
        packing, context_dim = cast(tuple[SitePacking, int], (self.packing, self.context_dim))
        inputs = encoder_inputs_of(self._owner, self.encoder_inputs, args, kwargs)
        plate = self._make_plate(inputs, packing, args, kwargs)
        encoder, posterior = registered(self, "encoder"), registered(self, "posterior")
        with plate:
            context = encode(self._owner, encoder, inputs, plate, context_dim)
            return packing.sample(posteriors_of(posterior), context)

    def __getstate__(self) -> dict[str, Any]:
        # As in Pyro's autoguides a pickle goes without the model; unlike theirs, this guide keeps it.
        model, master = self._model, self.master
        state = dict(super().__getstate__())
        self._model, self.master = model, master
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> AmortizedAutoGuide:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        copied._model = self._model  # which is no part of the guide
        return copied

    def _setup_prototype(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_prototype(*args, **kwargs)
        inputs = encoder_inputs_of(self._owner, self.encoder_inputs, args, kwargs)
        name = self._plate
        if callable(name):
            with poutine.block():
                name = made_plate(self._owner, name, args, kwargs).name
        found = find_local_sites(self._owner, cast(Trace, self.prototype_trace), name)
        packing = SitePacking(found.sites, self._packing_name)
        # The encoder tells sizes, dtype and device; rows enough for layers that need several.
        rows = [value[: found.frame.size] for value in inputs]
        with torch.no_grad():
            context = self.encoder(*rows)
        context_dim = check_contexts(self._owner, context, rows, self.context_dim)
        flow, options = self._flow
        self.posterior = packing.make_posteriors(context_dim, flow, options).to(context).train(self.training)
        self.packing, self.context_dim = packing, context_dim
        self._frames = {_sizes_key(inputs, args, kwargs): found.frame}

    @property
    def _owner(self) -> str:
        return f"AmortizedAutoGuide of {'the model' if self.packing is None else self.packing.describe()}"

    def _make_plate(
        self, inputs: Sequence[Tensor], packing: SitePacking, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> pyro.plate:
        if callable(self._plate):
            return made_plate(self._owner, self._plate, args, kwargs)
        frame = next(iter(self._frames.values()))
        if self.master is not None:
            return self.master().plates[frame.name]
        key = _sizes_key(inputs, args, kwargs)
        if key not in self._frames:
            if self._model is None:
                raise InvalidInputError(
                    complaint(
                        f"{self._owner}, which has lost its model",
                        "a batch of a size met before it was pickled",
                        f"{len(inputs[0])} rows",
                        "To have the model, make a guide of it and load the state_dict of this one.",
                    )
                )
            trace = trace_model(self.model, args, kwargs)
            found = find_local_sites(self._owner, trace, frame.name)
            check_sites(self._owner, trace, found, packing.sites)
            self._frames[key] = found.frame
        frame = self._frames[key]
        return pyro.plate(frame.name, frame.full_size or frame.size, subsample_size=frame.size, dim=frame.dim)


def _sizes_key(inputs: Sequence[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Hashable:
    """Return what the sizes of a model's plates depend on: the number of rows, and integers, strings and flags."""
    named = [*enumerate(args), *sorted(kwargs.items())]
    return len(inputs[0]), *((name, value) for name, value in named if isinstance(value, int | str | None))
