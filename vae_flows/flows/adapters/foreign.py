"""What the transforms and flows of other libraries have in common here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Size, Tensor

from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint
from vae_flows.flows.base import AmortizedFlow
from vae_flows.tensors.inference_mode import outside_inference_mode
from vae_flows.tensors.known_values import functorch_is_active, known
from vae_flows.tensors.precision import or_double
from vae_flows.tensors.subclasses import plain, tracked
from vae_flows.transforms.base import FusedTransform

__all__ = ["AdaptedFlow", "ForeignTransform", "Orientation"]

Orientation = Literal["sampling", "density"]
# An inverse that misses by more has failed; those that succeed miss by rounding.
INVERSE_RESIDUAL = 1e-3


class ForeignTransform(FusedTransform):
    """A transform of another library, conditioned anew for each evaluation.

    So its own cache, which cannot see changes in place, never outlives an evaluation; ours does the remembering.
    Results have no graph where gradients are off, though some of those libraries switch them on.

    Arguments:
        name: The flow's, for errors.
        condition: Returns the foreign transform for the context.
        latent_dim: D.
        batch_shape: Batch shape of the context.
        dependencies: Tensors that `condition` reads: the context and learned parameters.
        cache_size: 0 or 1.

    Raises:
        InvalidInputError: The inverse raises it for values that the foreign transform does not reach or cannot invert,
            both directions where the library does not compute in 16 bits, and a backward pass that builds a graph where
            only first derivatives are right.
    """

    # Whether the other library's derivatives are right to first order only.
    first_order_only = False

    def __init__(
        self,
        name: str,
        condition: Callable[[], Any],
        latent_dim: int,
        batch_shape: Size,
        *,
        dependencies: Sequence[Tensor] = (),
        cache_size: int = 1,
    ) -> None:
        super().__init__(latent_dim, batch_shape, cache_size=cache_size)
        self.name = name
        self._condition = condition
        self._dependencies = tuple(dependencies)

    @abstractmethod
    def value_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x (*shape, D)`, which has the full shape, to y and the log-determinant `(*shape,)`."""

    @abstractmethod
    def invert(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map `y (*shape, D)`, which has the full shape, to x and the log-determinant of the forward map."""

    def dependencies(self) -> Sequence[Tensor]:
        return self._dependencies

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._whole(self.value_and_log_det, x)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._whole(self.invert, y)

    def log_det_at_inverse(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and the log-determinant there, having checked that x is mapped to y."""
        reached, log_det = self.value_and_log_det(x)
        if known((reached - y).abs() <= INVERSE_RESIDUAL * (1 + y.abs())) is False:
            raise InvalidInputError(
                complaint(
                    f"inverse of {self.name}",
                    "values that the transform reaches",
                    f"some among {tuple(y.shape)} that it does not, or not in {y.dtype}",
                    f"Score the flow's own samples{or_double(y.dtype)}, or choose a flow that reaches the whole space.",
                )
            )
        return x, log_det

    def _whole(self, primitive: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
        """Give the primitive what every library can handle: full shapes that are not empty."""
        shape = self.broadcast_shape(z)
        origins = (z, *self.dependencies())
        z = plain(z).expand(shape + z.shape[-1:])
        own = {tensor.dtype for tensor in self.dependencies()}
        for dtype in own:  # values of fewer bits are exact in it
            z = z.to(torch.promote_types(z.dtype, dtype))
        if not z.numel():
            return z, z.new_zeros(shape)
        try:
            with outside_inference_mode(*origins):
                value, log_det = primitive(z)
        except RuntimeError as error:
            if isinstance(error, VAEFlowsError) or (torch.finfo(z.dtype).bits > 16 and z.dtype in own):
                raise
            reason = str(error).partition("\n")[0]
            raise InvalidInputError(
                complaint(
                    self.name,
                    "a dtype that its library computes in",
                    f"{z.dtype} ({reason})",
                    "Convert both by .to(…).",
                )
            ) from error
        if not torch.is_grad_enabled():
            return value.detach(), log_det.detach()
        if self.first_order_only and not (torch.compiler.is_compiling() or functorch_is_active()):
            _refuse_second_order(self.name, value, log_det)
        return tracked(value, origins), tracked(log_det, origins)


def _refuse_second_order(name: str, *results: Tensor) -> None:
    def refuse(gradient: Tensor) -> None:
        if torch.is_grad_enabled():
            raise InvalidInputError(
                complaint(
                    f"gradient of {name}",
                    "a backward pass without create_graph, as second derivatives of this flow are not available",
                    "one that builds a graph",
                    "Choose another flow for them, such as 'zuko:NSF' or 'planar'.",
                )
            )

    for result in results:
        if result.grad_fn is not None:
            result.register_hook(refuse)


class AdaptedFlow(AmortizedFlow):
    """A flow made of another library's parts.

    Subclasses build those parts within `building` and write `foreign_transform`.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        name: The name by which `make_flow` knows it.
        orientation: Which way the other library's cheap direction goes, `sampling` or `density`.
        options: The other options that it was made with.

    Raises:
        InvalidInputError: A size is not a positive integer.
    """

    def __init__(
        self, latent_dim: int, context_dim: int, name: str, orientation: Orientation, options: Mapping[str, Any]
    ) -> None:
        super().__init__(latent_dim, context_dim)
        self.name = name
        self.orientation = orientation
        self.options = dict(options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments with which `make_flow` would build this flow again by its name."""
        sizes = {"latent_dim": self.latent_dim, "context_dim": self.context_dim}
        return {**sizes, "orientation": self.orientation, **self.options}

    @abstractmethod
    def foreign_transform(self, context: Tensor) -> FusedTransform:
        """Build the transform for a checked context, in the other library's own direction."""

    @contextmanager
    def building(self, options: Mapping[str, Any]) -> Iterator[None]:
        """Tell options that the other library refuses, at once or when it first computes something."""
        try:
            yield
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.foreign_transform(torch.zeros(1, self.context_dim)).forward_with_log_det(
                    torch.zeros(1, self.latent_dim)
                )
        except VAEFlowsError:
            raise
        except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if torch.empty(0).is_meta:
                expected = "a device with numbers, as the other library computes while it builds"
                remedy = "Build it on the CPU, and move it by .to('meta')."
                raise InvalidInputError(
                    complaint(f"flow {self.name!r}", expected, "the meta device", remedy)
                ) from error
            raise InvalidInputError(
                f"flow {self.name!r} does not take these options ({dict(options)}): {error}."
            ) from error

    def transform(self, context: Tensor) -> FusedTransform:
        foreign = self.foreign_transform(context)
        return foreign if self.orientation == "sampling" else foreign.inv

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, name={self.name!r}, orientation={self.orientation!r}"
