"""What a posterior owes and what more it may offer, and the checks of what posteriors and priors return.

A posterior owes one thing: called with a context `(*batch, C)` it returns a distribution of PyTorch or Pyro with
reparameterised samples, batch shape `*batch` and event shape `(latent_dim,)`. Whatever else the library can use is an
offer with a default, and the functions of this module are the only ones that know both:

| offer | read by | without it |
|---|---|---|
| `latent_dim`, an integer | `size_of` | `None`: taken from the prior, the decoder or the first draw |
| `context_dim`, an integer | `context_size_of` | `None`: that of the context |
| `flow_name`, a string | `name_of` | the name of the class or function |
| `last_solve`, a `WorkCount` or `None` | `work_of` | `None`: no solves |

What one evaluation costs and adds to the loss is no offer of the posterior but in the record of its distribution
(`vae_flows.distributions.Draw`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol, cast

from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import Distribution

from vae_flows.checks import described, require_takes
from vae_flows.distributions import require_reparameterized
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.ode.work_counts import WorkCount

__all__ = [
    "Posterior",
    "Prior",
    "as_pyro",
    "condition_posterior",
    "context_size_of",
    "make_prior",
    "name_of",
    "size_of",
    "work_of",
]


class Posterior(Protocol):
    """What maps a context `(*batch, C)` to a reparameterised distribution, of batch shape `*batch` and one event dim.

    A module, so that its parameters are trained; any other callable works where nothing of it is learned.
    """

    def __call__(self, context: Tensor, /) -> Distribution:
        """Return q(z | context)."""
        ...


Prior = Distribution | Callable[[], Distribution]
"""p(z): a distribution of PyTorch or Pyro, or a callable or module that returns one, such as a
`ContinuousNormalizingFlow`."""


def size_of(part: object) -> int | None:
    """Return the `latent_dim` of a posterior, prior or decoder, or of a distribution the size of its events.

    It is `None` where they do not tell.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> size_of(AmortizedPosterior(3, 8, flow="none")), size_of(len)
        (3, None)
    """
    if isinstance(part, Distribution):
        return part.event_shape[0] if len(part.event_shape) == 1 else None
    return _integer(part, "latent_dim")


def context_size_of(posterior: object) -> int | None:
    """Return the `context_dim` of a posterior, `None` where it does not tell.

    Example:
        >>> context_size_of(len) is None
        True
    """
    return _integer(posterior, "context_dim")


def name_of(posterior: object) -> str:
    """Return what records and messages call a posterior or flow: its name, or that of its class or function.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> name_of(AmortizedPosterior(3, 8, flow="planar")), name_of(len)
        ('planar', 'len')
    """
    for offer in ("flow_name", "name", "__name__"):
        name = getattr(posterior, offer, None)
        if isinstance(name, str) and name:
            return name
    return type(posterior).__name__


def work_of(posterior: object) -> WorkCount | None:
    """Return the work of the latest solve of a posterior or flow, `None` where it makes none.

    Example:
        >>> work_of(len) is None
        True
    """
    work = getattr(posterior, "last_solve", None)
    return work if isinstance(work, WorkCount) else None


def condition_posterior(posterior: Posterior, context: Tensor, latent_dim: int | None = None) -> TorchDistribution:
    """Return q(z | context) as a distribution of Pyro, once it is what a posterior owes.

    Arguments:
        posterior: The posterior.
        context: `(*batch, C)`.
        latent_dim: Size of the latents, `None` for any.

    Raises:
        InvalidInputError: It returned something else: no distribution, one without reparameterised samples, or one of
            another batch or event shape.

    Example:
        >>> import torch
        >>> from torch.distributions import Independent, Normal
        >>> q = condition_posterior(lambda h: Independent(Normal(h[..., :2], 1.0), 1), torch.zeros(5, 8))
        >>> q.batch_shape, q().shape
        (torch.Size([5]), torch.Size([5, 2]))
    """
    q = posterior(context)
    subject = f"what posterior {name_of(posterior)!r} returns for a context of shape {tuple(context.shape)}"
    _check_shapes(subject, q, context.shape[:-1], latent_dim)
    require_reparameterized(q)
    return as_pyro(q)


def make_prior(prior: Prior, latent_dim: int | None = None) -> TorchDistribution:
    """Return p(z) as a distribution of Pyro, once its shapes are right.

    Arguments:
        prior: A distribution, or a callable that returns one.
        latent_dim: Size of the latents, `None` for any.

    Raises:
        InvalidInputError: It is something else, or has another batch or event shape.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> make_prior(Normal(torch.zeros(2), 1.0))
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: prior: expected batch shape () and event shape (latent_dim,), got batch \
shape (2,) and event shape (). Declare the last dimension an event: Independent(…, 1), or .to_event(1) in Pyro.
    """
    p = prior if isinstance(prior, Distribution) else _called(prior)
    _check_shapes("prior", p, Size(), latent_dim)
    return as_pyro(p)


def _called(prior: Any) -> Any:
    """Call a prior that is no distribution, which may be anything that a user takes for one."""
    require_takes("prior", "a distribution, or what returns one when called without arguments", prior)
    return prior()


def as_pyro(q: Distribution) -> TorchDistribution:
    """Return the same distribution with Pyro's methods, which `pyro.sample` and plates need.

    Example:
        >>> from torch.distributions import Normal
        >>> as_pyro(Normal(0.0, 1.0)).to_event(0).expand_by([3]).batch_shape
        torch.Size([3])
    """
    if isinstance(q, TorchDistributionMixin):
        return cast(TorchDistribution, q)
    converted = copy.copy(q)
    converted.__class__ = _with_pyro(type(q))
    return cast(TorchDistribution, converted)


@cache
def _with_pyro(kind: type[Distribution]) -> type[Distribution]:
    # As Pyro makes its own of PyTorch's distributions.
    own: Any = type(kind.__name__, (kind, TorchDistributionMixin), {"__module__": kind.__module__})
    return own


def _check_shapes(subject: str, q: object, batch: Iterable[int], latent_dim: int | None) -> None:
    batch = tuple(batch)
    if not isinstance(q, Distribution):
        remedy = "A posterior maps a context to q(z | context), a prior is p(z) or returns it."
        raise InvalidInputError(complaint(subject, "a distribution of PyTorch or Pyro", described(q), remedy))
    got_batch, got_event = tuple(q.batch_shape), tuple(q.event_shape)
    if got_batch == batch and len(got_event) == 1 and latent_dim in (None, got_event[0]):
        return
    remedy = "One event is one latent vector; batch dimensions are those of the context."
    if not got_event and len(got_batch) == len(batch) + 1:
        remedy = "Declare the last dimension an event: Independent(…, 1), or .to_event(1) in Pyro."
    elif got_batch == batch and len(got_event) == 1:
        remedy = "latent_dim is that of posterior, prior and decoder alike."
    expected = f"batch shape {batch} and event shape ({'latent_dim' if latent_dim is None else latent_dim},)"
    got = f"batch shape {got_batch} and event shape {got_event}"
    raise InvalidInputError(complaint(subject, expected, got, remedy))


def _integer(part: object, offer: str) -> int | None:
    size: Any = getattr(part, offer, None)
    return size if isinstance(size, int) and not isinstance(size, bool) else None
