"""What one trace of a model tells of its local latent sites."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.runtime import _PYRO_STACK, Message
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions.constraints import Constraint

from vae_flows.call_stack import warn
from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.guides.sites import LocalSite

__all__ = ["LocalSites", "check_sites", "find_local_sites", "trace_model"]


class LocalSites(NamedTuple):
    """A model's local sites, in its order, and the frame of the plate around them."""

    sites: tuple[LocalSite, ...]
    frame: CondIndepStackFrame


def trace_model(model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Run a model once, unseen by the handlers around, and return its trace."""
    return poutine.block(poutine.trace(model).get_trace)(*args, **kwargs)


def find_local_sites(owner: str, trace: Trace, plate: str | None = None) -> LocalSites:
    """Return the latent sites inside a plate of a traced model; discrete ones that are enumerated do not count.

    Arguments:
        owner: Whom an error names.
        trace: Trace of the model.
        plate: Name of the plate; the only one that has latent sites where it is `None`.

    Raises:
        UnknownNameError: No latent site is in a plate of that name.
        InvalidInputError: No latent site is in a plate, there are several plates to choose from, or a site lies in
            further plates, is discrete, or has a support without a bijection or one that differs from row to row.
    """
    nodes = cast(Mapping[str, Mapping[str, Any]], trace.nodes)
    latent = {name: node for name, node in nodes.items() if _is_latent(node)}
    stacks = {name: [frame for frame in node["cond_indep_stack"] if frame.vectorized] for name, node in latent.items()}
    plate = _choose_plate(owner, stacks, plate)
    local = {name: stack for name, stack in stacks.items() if plate in (frame.name for frame in stack)}
    for name, stack in local.items():
        if len(stack) > 1:
            raise InvalidInputError(
                complaint(
                    f"{owner} site {name!r}",
                    f"a site in the plate {plate!r} alone",
                    f"one in the plates {_names(stack)}, of batch shape {tuple(latent[name]['fn'].batch_shape)}",
                    "Make the other dimensions part of its event with .to_event, or leave the site to another guide "
                    f"with poutine.block(model, hide=[{name!r}]).",
                )
            )
        _warn_of_a_mask(owner, name, latent[name]["mask"])
    (frame, *_) = next(iter(local.values()))
    return LocalSites(tuple(_local_site(owner, name, latent[name]["fn"]) for name in local), frame)


def check_sites(owner: str, trace: Trace, found: LocalSites, sites: Sequence[LocalSite]) -> None:
    """Compare the sites of a guide with those found in a model.

    Raises:
        InvalidInputError: A site is missing on either side, or differs in shape, or has values outside of its support.
    """
    expected, got = {site.name: site for site in found.sites}, {site.name: site for site in sites}
    plate = repr(found.frame.name)
    for name in [*got, *expected]:
        if name not in expected:
            place = f"outside of plate {plate}, or observed" if name in trace.nodes else "absent from the model"
            wanted = f"a latent site of the model in plate {plate}: {_describe(found.sites)}"
            raise InvalidInputError(complaint(f"{owner} site {name!r}", wanted, f"a site {place}"))
        if name not in got:
            remedy = f"Add it, or give it another guide and check poutine.block(model, hide=[{name!r}])."
            raise InvalidInputError(complaint(owner, f"the model's local site {name!r}", "none such", remedy))
        _check_site(owner, expected[name], got[name])


def _check_site(owner: str, expected: LocalSite, got: LocalSite) -> None:
    subject = f"{owner} site {got.name!r}"
    if got.event_shape != expected.event_shape:
        raise InvalidInputError(
            complaint(subject, f"event shape {tuple(expected.event_shape)}", f"{tuple(got.event_shape)}")
        )
    # Unconstrained values far out on either side show where the guide's values can lie.
    values = got.transform()(torch.linspace(-8, 8, 9).unsqueeze(-1).expand(9, got.size))
    if not bool(expected.support.check(values).all()):
        remedy = "Give the model's support to the LocalSite."
        raise InvalidInputError(complaint(subject, f"the support {expected.support}", f"{got.support}", remedy))


def _warn_of_a_mask(owner: str, name: str, mask: bool | Tensor | None) -> None:
    """Warn of a site that the model masks and the guide does not."""
    whole = mask is None or bool(torch.as_tensor(mask).all())
    if whole or any(isinstance(handler, MaskMessenger) for handler in _PYRO_STACK):
        return
    expected, got = "a site without a mask", "one that the model masks: log q would stay where log p(z) drops out"
    remedy = "Mask the guide too: SVI(model, poutine.mask(guide, mask=mask), …)."
    warn(complaint(f"{owner} site {name!r}", expected, got, remedy))


def _describe(sites: Iterable[LocalSite]) -> str:
    return ", ".join(f"{site.name!r} {tuple(site.event_shape)}" for site in sites)


def _is_latent(node: Mapping[str, Any]) -> bool:
    if node["type"] != "sample" or node["is_observed"] or site_is_subsample(cast(Message, node)):
        return False
    enumerated = node["infer"].get("enumerate") and getattr(node["fn"], "has_enumerate_support", False)
    return not enumerated and not node["infer"].get("is_auxiliary")


def _names(stack: Iterable[CondIndepStackFrame]) -> str:
    return ", ".join(repr(frame.name) for frame in stack)


def _choose_plate(owner: str, stacks: Mapping[str, Sequence[CondIndepStackFrame]], plate: str | None) -> str:
    """Return the plate called `plate`, or the only one, among those around latent sites."""
    available = {frame.name for stack in stacks.values() for frame in stack}
    if not available:
        raise InvalidInputError(
            complaint(
                f"{owner} model",
                "latent sites inside a plate over the batch",
                f"{', '.join(map(repr, stacks))} outside of plates" if stacks else "no latent site",
                "Global sites are for Pyro's autoguides; local ones go inside `with pyro.plate(name, len(x))`.",
            )
        )
    if plate is None and len(available) > 1:
        listed = "; ".join(f"{name!r} in {_names(stack)}" for name, stack in stacks.items() if stack)
        raise InvalidInputError(
            complaint(f"{owner} plate", "one plate with latent sites", listed, "Choose one with plate='…'.")
        )
    if plate is not None and plate not in available:
        raise unknown_name(f"{owner} plate with latent sites", plate, available)
    return plate or available.pop()


def _local_site(owner: str, name: str, fn: TorchDistributionMixin) -> LocalSite:
    support = cast(Constraint, fn.support)
    return LocalSite(name, fn.event_shape, _of_one_row(f"{owner} site {name!r}", support, len(fn.event_shape)))


def _of_one_row(owner: str, support: Constraint, event_dim: int) -> Constraint:
    """Return a support without batch dimensions: plates expand the bounds of an interval, say, to the batch."""
    changed = copy.copy(support)
    for key, value in vars(support).items():
        if isinstance(value, Constraint):
            setattr(changed, key, _of_one_row(owner, value, event_dim))
        elif isinstance(value, Tensor):
            rows = value.detach().reshape(-1, *value.shape[max(0, value.dim() - event_dim) :])
            if not bool((rows == rows[0]).all()):
                raise InvalidInputError(
                    complaint(
                        owner,
                        "one support for all rows",
                        f"{support} that differs from row to row",
                        "Take a latent site on a fixed interval, and compute the value from it in the model.",
                    )
                )
            setattr(changed, key, rows[0])
    return changed
