"""zuko's flows as amortised flows; zuko is imported when the first one is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, Self, cast, get_type_hints

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.transforms import _InverseTransform

from vae_flows.checks import checked
from vae_flows.errors import IntegrationError, complaint, unknown_name
from vae_flows.extras import missing_package, needing
from vae_flows.flows.adapters.foreign import AdaptedFlow, ForeignTransform, Orientation
from vae_flows.flows.adapters.newton import newton_inverse
from vae_flows.modules import bound
from vae_flows.tensors.subclasses import plain
from vae_flows.transforms.base import FusedTransform

__all__ = ["ZUKO_FAMILIES", "ZukoFlow", "import_flows", "require_zuko", "zuko_is_installed", "zuko_options"]

# All of zuko.flows but NCSF, which maps a torus, and the mixture GMM, which is no transform.
ZUKO_FAMILIES = ("BPF", "CNF", "GF", "MAF", "NAF", "NICE", "NSF", "RealNVP", "SOSPF", "UNAF")
BISECTED = ("BPF", "GF", "NAF", "SOSPF", "UNAF")
MASKED, COUPLING = ("BPF", "MAF", "NAF", "NSF", "SOSPF", "UNAF"), ("NICE", "RealNVP")
MADE_BY_FLOWS = (
    "latent_dim",
    "context_dim",
    "family",
    "features",
    "context",
    "in_features",
    "out_features",
    "adjacency",
    "mask",
)
MAX_EVALUATIONS = 10_000


class ZukoFlow(AdaptedFlow):
    """The transform of one of zuko's flows, without its base distribution.

    zuko's flows carry data to noise, and that is the cheap direction of its autoregressive ones. A posterior draws and
    scores its own draws, so here that direction carries the Gaussian to the posterior, as in an inverse autoregressive
    flow (`orientation="sampling"`); `density` is zuko's own use.

    `BPF`, `GF`, `NAF`, `SOSPF` and `UNAF` are inverted by zuko's bisection and Newton steps after it. All but `BPF` do
    not reach the whole space; a value that they do not reach is an error, never a wrong density. Second derivatives of
    `CNF`, `NAF`, `SOSPF` and `UNAF`, which zuko does not have, are refused. With `exact=False`, `CNF` draws new noise
    for each evaluation.

    Importing zuko switches off the validation of all distributions of `torch`, and more; that is undone here, except
    for the method that it adds to `torch.distributions.Transform`. If zuko was imported before, nothing is changed.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        family: A class of `zuko.flows`, one of `ZUKO_FAMILIES`.
        orientation: `sampling` or `density`: what is cheap.
        **options: Of zuko's class, such as `transforms`, `hidden_features` or `bins`.

    Raises:
        UnknownNameError: zuko has no such flow of vectors.
        InvalidInputError: zuko is not installed, or does not take these options.
            A backward pass raises it where it builds a graph for second derivatives that zuko does not have.
        IntegrationError: A solve of `CNF` took too many evaluations, as with dynamics that are NaN.
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        family: str,
        *,
        orientation: Orientation = "sampling",
        **options: Any,
    ) -> None:
        super().__init__(latent_dim, context_dim, f"zuko:{family}", orientation, options)
        require_zuko(family)
        flows = import_flows()
        with self.building(options):
            self.lazy: nn.Module = getattr(flows, family)(latent_dim, context_dim, **options).transform

    def get_config(self) -> dict[str, Any]:
        """Return the arguments beside the family, which is part of the flow's name."""
        return super().get_config()

    def foreign_transform(self, context: Tensor) -> FusedTransform:
        kind = _KINDS.get(self.name.partition(":")[2], ZukoTransform)
        lazy = bound(self.lazy)  # what it is lent for this call is what the transform, which outlives it, has
        read = (context, *lazy.parameters())
        condition = partial(lazy, plain(context))
        return kind(self.name, condition, self.latent_dim, context.shape[:-1], dependencies=read)

    @checked
    def train(self, mode: bool = True) -> Self:
        """Set the mode, except for zuko's modules."""
        super().train(mode)
        # Elsewhere than in training mode their quadratures, bisections and solves ignore the gradients of weights.
        self.lazy.train()
        return self


def zuko_is_installed() -> bool:
    """Tell whether zuko can be imported, without importing it."""
    return find_spec("zuko") is not None


def require_zuko(family: str) -> None:
    """Check that zuko is there and has a flow of vectors called `family`.

    Raises:
        UnknownNameError: It has none.
        MissingPackageError: zuko is not installed.
    """
    if family not in ZUKO_FAMILIES:
        raise unknown_name("flow of zuko", family, ZUKO_FAMILIES)
    if not zuko_is_installed():
        raise missing_package("zuko", "zuko")


def zuko_options(family: str) -> tuple[Parameter, ...]:
    """Return the parameters of a family's options: of `ZukoFlow`, of zuko's class, and of what it hands others on to.

    Example:
        >>> {"orientation", "bins", "transforms"} <= {parameter.name for parameter in zuko_options("NSF")}
        True
    """
    flows, networks = import_flows(), import_module("zuko.nn")
    transform, network = "ElementWiseTransform", networks.MLP
    if family == "CNF":
        transform = "FFJTransform"
    elif family in MASKED:
        transform, network = "MaskedAutoregressiveTransform", networks.MaskedMLP
    elif family in COUPLING:
        transform = "GeneralCouplingTransform"
    kinds: list[Any] = [kind for kind in getattr(flows, family).__mro__ if kind.__module__.startswith(flows.__name__)]
    kinds += [getattr(flows, transform), network, *([networks.Linear] if network is networks.MLP else [])]
    found: dict[str, Parameter] = {}
    for kind in [ZukoFlow, *kinds]:
        hints = get_type_hints(kind.__init__)
        for parameter in list(signature(kind.__init__).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                annotation = hints.get(parameter.name, parameter.annotation)
                found.setdefault(parameter.name, parameter.replace(annotation=annotation))
    return tuple(parameter for name, parameter in found.items() if name not in MADE_BY_FLOWS)


class ZukoTransform(ForeignTransform):
    """A transform of zuko, whose values and log-determinants come from one computation of its own."""

    def value_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self._condition().call_and_ladj(x)
        return y, log_det.expand(x.shape[:-1])

    def invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_det_at_inverse(self._condition().inv(y), y)


class ZukoBisection(ZukoTransform):
    """A transform that zuko inverts by bisection, between -10 and 10 and to 1e-6.

    That is only the start of Newton's method here, which also gives the derivatives: in autoregressive transforms,
    zuko's implicit ones count the weights of `NAF` and `UNAF` twice, directly and through the earlier components.
    """

    def invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        transform = self._condition()
        with torch.no_grad():
            start = transform.inv(y)
        return self.log_det_at_inverse(newton_inverse(transform, y, start), y)


class ZukoQuadrature(ZukoBisection):
    """A bisected transform with derivatives inside its value or its log-determinant."""

    first_order_only = True


class ZukoSolve(ZukoTransform):
    """zuko's continuous transform: one solve a direction, ended where zuko's own solver would go on for ever."""

    first_order_only = True

    @property
    def is_estimated(self) -> bool:
        lazy: Any = cast(partial[Any], self._condition).func
        return not lazy.exact

    def value_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with self._at_most(MAX_EVALUATIONS):
            return super().value_and_log_det(x)

    def invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        with self._at_most(MAX_EVALUATIONS):
            x, log_det = self._condition().inv.call_and_ladj(y)
        return x, -log_det

    @contextmanager
    def _at_most(self, limit: int) -> Iterator[None]:
        """Raise an `IntegrationError` when the dynamics are evaluated more often than that."""
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1
            if count > limit:
                remedy = "Check weights and inputs for NaN, loosen atol and rtol, or use flow='ffjord'."
                message = complaint(f"solve of {self.name}", f"at most {limit} evaluations", "more", remedy)
                raise IntegrationError(message, t=None, step_size=None, evaluations=limit)

        lazy: Any = cast(partial[Any], self._condition).func
        handle = lazy.ode.register_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()


_KINDS: dict[str, type[ZukoTransform]] = {
    "CNF": ZukoSolve,
    **dict.fromkeys(BISECTED, ZukoBisection),
    **dict.fromkeys(("NAF", "SOSPF", "UNAF"), ZukoQuadrature),
}


def import_flows() -> Any:
    """Import `zuko.flows`, and put back what its import changes in `torch.distributions`.

    Raises:
        MissingPackageError: zuko is not installed.
    """
    changed = {name: vars(Distribution)[name] for name in ("_validate_args", "arg_constraints")}
    name = _InverseTransform.__name__
    try:
        with needing("zuko"):
            return import_module("zuko.flows")
    finally:
        for attribute, value in changed.items():
            setattr(Distribution, attribute, value)
        _InverseTransform.__name__ = name
