"""Pyro's conditional transforms as amortised flows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast, get_type_hints

from pyro.distributions import ConditionalTransformModule, transforms
from torch import Tensor, nn

from vae_flows.checks import checked
from vae_flows.errors import require_positive, unknown_name
from vae_flows.flows.adapters.foreign import AdaptedFlow, ForeignTransform, Orientation
from vae_flows.flows.adapters.newton import newton_inverse
from vae_flows.modules import bound
from vae_flows.tensors.subclasses import plain
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.permutations import ReverseTransform

__all__ = ["PyroFlow", "pyro_families", "pyro_options", "require_pyro"]

Factory = Callable[..., ConditionalTransformModule]
PREFIX = "conditional_"
MADE_BY_PYRO = ("autoregressive_nn", "split_dim", "hypernet")


class PyroFlow(AdaptedFlow):
    """Layers of one of Pyro's conditional transforms, each with networks of its own for the context.

    Drawing is the cheap direction of all of them. Families without an inverse in Pyro (`planar`, `radial`,
    `neural_autoregressive`) are inverted by Newton's method. `matrix_exponential` sums `iterations` terms of a series,
    whose log-determinant is that of the whole one.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        family: Name of Pyro's factory without `conditional_`: any of those that take the sizes of latents and
            context, so not `generalized_channel_permute`, which is one of images.
        num_layers: Number of transforms. Coupling layers take their halves by turns.
        orientation: `sampling`, or `density` for the inverse: scoring any value is cheap then, drawing is not.
        **options: Of Pyro's factory, such as `hidden_dims` or `count_bins`.

    Raises:
        UnknownNameError: Pyro has no such transform of vectors.
        InvalidInputError: Pyro does not take these options.

    Example:
        >>> import torch
        >>> flow = PyroFlow(4, 8, "spline_autoregressive", num_layers=2, count_bins=4)
        >>> flow(torch.randn(5, 8))(torch.randn(3, 5, 4)).shape
        torch.Size([3, 5, 4])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        family: str,
        *,
        num_layers: int = 4,
        orientation: Orientation = "sampling",
        **options: Any,
    ) -> None:
        super().__init__(latent_dim, context_dim, f"pyro:{family}", orientation, {"num_layers": num_layers, **options})
        require_positive(self.name, num_layers=num_layers)
        require_pyro(family)
        factory = _factories()[family]
        # Settings that come from a file have tuples, some of Pyro's networks add their widths to lists.
        options = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
        self._takes_turns = family == "affine_coupling"
        with self.building(options):
            self.layers = nn.ModuleList(factory(latent_dim, context_dim, **options) for _ in range(num_layers))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments beside the family, which is part of the flow's name."""
        return super().get_config()

    def foreign_transform(self, context: Tensor) -> FusedTransform:
        batch = context.shape[:-1]
        parts: list[FusedTransform] = []
        # What layers are lent for this call is what the transform, which outlives it, has.
        for index, layer in enumerate(map(bound, self.layers)):
            if index and self._takes_turns:
                parts.append(ReverseTransform(self.latent_dim, batch))
            condition = partial(cast(ConditionalTransformModule, layer).condition, plain(context))
            read = (context, *layer.parameters())
            parts.append(PyroTransform(self.name, condition, self.latent_dim, batch, dependencies=read))
        return ChainTransform(parts)


def pyro_families() -> tuple[str, ...]:
    """Return the names that `PyroFlow` takes.

    Example:
        >>> "radial" in pyro_families()
        True
    """
    return tuple(sorted(_factories()))


def pyro_options(family: str) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a family's options: those of `PyroFlow` and of Pyro's factory, which has no annotations.

    Example:
        >>> [parameter.name for parameter in pyro_options("radial")]
        ['num_layers', 'orientation', 'hidden_dims']
    """
    hints = get_type_hints(PyroFlow.__init__)
    shared = [p for p in inspect.signature(PyroFlow).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = list(inspect.signature(_factories()[family]).parameters.values())[2:]
    named = [p for p in own if p.kind is not p.VAR_KEYWORD]
    if len(named) < len(own):  # Pyro hands the rest on to the transform, whose first arguments it makes itself
        transform = getattr(transforms, "".join(map(str.capitalize, family.split("_"))))
        named += [p for name, p in inspect.signature(transform).parameters.items() if name not in MADE_BY_PYRO]
    found = {p.name: p for p in reversed([*(p.replace(annotation=hints[p.name]) for p in shared), *named])}
    widths = found.get("hidden_dims")
    if widths is not None:
        found["hidden_dims"] = widths.replace(annotation=Sequence[int] | None)
    return tuple(reversed(found.values()))


def require_pyro(family: str) -> None:
    """Check that Pyro has a conditional transform of vectors called `family`.

    Raises:
        UnknownNameError: It has none.
    """
    if family not in _factories():
        raise unknown_name("flow of Pyro", family, _factories())


class PyroTransform(ForeignTransform):
    """A conditional transform of Pyro, with log-determinants of vectors whatever it takes for an event."""

    def value_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        transform = self._condition()
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
        if transform.domain.event_dim == 0:
            log_det = log_det.sum(-1)
        return y, log_det.expand(x.shape[:-1])

    def invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        transform = self._condition()
        try:
            x = transform.inv(y)
        except (KeyError, NotImplementedError):  # how Pyro tells that a transform has no inverse
            x = newton_inverse(transform, y)
        return self.log_det_at_inverse(x, y)


def _factories() -> dict[str, Factory]:
    """Return Pyro's factories of transforms of vectors, those that take both sizes."""
    found = {
        name.removeprefix(PREFIX): factory for name, factory in vars(transforms).items() if name.startswith(PREFIX)
    }
    return {
        name: factory
        for name, factory in found.items()
        if list(inspect.signature(factory).parameters)[:2] == ["input_dim", "context_dim"]
    }
