"""What every transform of the library shares: fused value and log-det, checks, and a cache that cannot go stale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Self, cast
from weakref import ref

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from vae_flows.call_stack import calling_objective, warn_of_bias
from vae_flows.checks import checked, require_sample_shape
from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint
from vae_flows.tensors.inference_mode import recordable
from vae_flows.tensors.known_values import all_finite
from vae_flows.tensors.precision import full_precision
from vae_flows.tensors.shapes import broadcast_batch, broadcast_latents
from vae_flows.transforms.memory import RememberingTransform
from vae_flows.transforms.records import Evaluation
from vae_flows.transforms.scores import check_score
from vae_flows.transforms.scores import evaluate_with_score as carry_score

__all__ = ["EvaluatedTransform", "FusedTransform", "InverseTransform"]


class FusedTransform(RememberingTransform):
    r"""An invertible map of vectors whose value and :math:`\log|\det \partial y/\partial x|` come from one computation.

    Subclasses write two primitives, `forward_with_log_det` and `inverse_with_log_det`; everything that
    `torch.distributions` and Pyro ask of a transform derives from them. Latents are `(*sample, *batch, D)`,
    log-determinants `(*sample, *batch)`; `*batch` is the batch shape of the parameters, against which latents
    broadcast.

    `evaluate` and `evaluate_inverse` return all that an evaluation finds, as one record. A transform that finds more
    than value and log-determinant overrides `forward_evaluation`, `inverse_evaluation` and `scored_evaluation`.

    The latest evaluation is kept when `cache_size` is 1, so that scoring a sample just drawn costs nothing. It is used
    only where that changes neither values nor gradients: the identical tensors come back; neither they, nor tensors
    that are attributes of the transform, nor those of `dependencies` were changed in place; and, where gradients are
    enabled, they were so then, and the gradients of all these tensors go where they went then. (Inside one function
    compiled by `torch.compile`, and of tensors made in inference mode, changes in place cannot be noticed.)

    Arguments:
        latent_dim: D, or `None` where any will do.
        batch_shape: Batch shape of the parameters.
        cache_size: 0 or 1.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    # Whether both primitives compute in float64 when given it, whatever the dtype of the parameters.
    takes_double = False
    # Whether a value or log-determinant that is NaN or infinite is a fault, as it is for maps of all vectors.
    is_finite = True

    @checked
    def __init__(self, latent_dim: int | None, batch_shape: Sequence[int], *, cache_size: int = 1) -> None:
        require_sample_shape(f"{type(self).__name__} batch_shape", batch_shape)
        super().__init__(cache_size=cache_size)
        self.latent_dim = latent_dim
        self.batch_shape = Size(batch_shape)
        self._inverse_made: ref[InverseTransform] | None = None

    @abstractmethod
    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x (*sample, *batch, D)` to `y` of that shape and the log-determinant `(*sample, *batch)`."""

    @abstractmethod
    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map `y` back to `x`; the log-determinant is that of the *forward* map at `x`."""

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Map x to y and its log-determinant, and carry the score of x to that of y, in one forward evaluation.

        Subclasses that know a shorter way than D vector-Jacobian products override this.

        Source: Vaitl et al. (2024), "Fast and unified path gradient estimators for normalizing flows".

        Arguments:
            x: `(*sample, *batch, D)`.
            score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.

        Returns:
            y, the log-determinant and :math:`J^{-T}(\partial \log q_0/\partial x - \partial \log|\det J|/\partial
            x)`, which is the score of y, without a graph.
        """
        shape = self.broadcast_shape(x) + x.shape[-1:]
        return carry_score(self.forward_with_log_det, x.expand(shape), score.expand(shape), tensors=self.sources())

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        """Compute the record of T at `x`: what `evaluate` checks for, and remembers."""
        return Evaluation(x, *self.forward_with_log_det(x))

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        """Compute the record of T at the x that is mapped to `y`: what `evaluate_inverse` checks for, and remembers."""
        x, log_det = self.inverse_with_log_det(y)
        return Evaluation(x, y, log_det)

    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation:
        """Compute the record of T at `x` and carry the score of x along."""
        return Evaluation(x, *self.forward_with_score(x, score))

    def evaluate(self, x: Tensor) -> Evaluation:
        """Map x `(*sample, *batch, D)`, and return all that is found.

        Raises:
            InvalidInputError: x has a wrong shape or dtype.
        """
        self._renew(x)
        if (remembered := self._recalled(x=x)) is not None:
            return remembered
        evaluation = self._found(self.forward_evaluation, x)
        return self._remember(evaluation, found=evaluation.y)

    def evaluate_inverse(self, y: Tensor) -> Evaluation:
        """Find the x that is mapped to y `(*sample, *batch, D)`, and return all that is found.

        Raises:
            InvalidInputError: y has a wrong shape or dtype.
        """
        self._renew(y)
        if (remembered := self._recalled(y=y)) is not None:
            return remembered
        evaluation = self._found(self.inverse_evaluation, y)
        return self._remember(evaluation, found=evaluation.x)

    def evaluate_with_score(self, x: Tensor, score: Tensor) -> Evaluation:
        r"""Map x and carry its score :math:`\partial \log q_0(x) / \partial x` along, as `forward_with_score` does.

        Raises:
            InvalidInputError: x or the score has a wrong shape or dtype.
        """
        check_score(x, score)
        self._renew(x)
        evaluation = self._found(self.scored_evaluation, x, score)
        return self._remember(evaluation, found=evaluation.y)

    def _found(self, evaluation: Callable[..., Evaluation], *given: Tensor) -> Evaluation:
        """Make an evaluation of latents and what comes with them."""
        self.broadcast_shape(given[0])
        if self.is_estimated and (objective := calling_objective()) is not None:
            warn_of_bias(objective, f"log-determinant of {type(self).__name__}")
        try:
            with full_precision(given[0]):
                return evaluation(*map(recordable, given))
        except RuntimeError as error:
            # Looked at here alone: to compare devices at each evaluation would cost more than it tells.
            self._refuse_other_devices(given[0], error)
            self._refuse_inference_tensors(error)
            raise

    def _refuse_other_devices(self, z: Tensor, error: RuntimeError) -> None:
        others = {source.device for source in self.sources()} - {z.device}
        if others and not isinstance(error, VAEFlowsError):
            expected, got = f"latents on {', '.join(map(str, others))}, as its parameters", f"latents on {z.device}"
            raise InvalidInputError(complaint(type(self).__name__, expected, got, "Move them by .to(…).")) from error

    def _refuse_inference_tensors(self, error: RuntimeError) -> None:
        if torch.is_grad_enabled() and any(source.is_inference() for source in self.sources()):
            expected, got = "parameters made outside inference mode, for gradients", "some made in inference mode"
            remedy = "Condition it outside torch.inference_mode(), or evaluate it under torch.no_grad()."
            raise InvalidInputError(complaint(type(self).__name__, expected, got, remedy)) from error

    @property
    def is_regularized(self) -> bool:
        """Whether evaluations add to the loss, as their records' `regularization`."""
        return False

    @property
    def is_estimated(self) -> bool:
        """Whether log-determinants are noisy estimates: unbiased, but exp and log of them are not."""
        return False

    def exact(self) -> FusedTransform:
        """Return this transform with exact log-determinants where they cost about what estimates do, or itself."""
        return self

    def broadcast_shape(self, z: Tensor) -> Size:
        """Check latents `z` and return `(*sample, *batch)` after broadcasting against the parameters."""
        return broadcast_batch(type(self).__name__, z, self.latent_dim, self.batch_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.evaluate(x).y

    def _inv_call(self, y: Tensor) -> Tensor:
        return self.evaluate_inverse(y).x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return :math:`\\log|\\det \\partial y/\\partial x|` at `x`, shape `(*sample, *batch)`."""
        self._renew(x)
        if x is not None and (remembered := self._recalled(x=x, y=y)) is not None:
            return remembered.log_det
        evaluation = self._found(self.forward_evaluation, x)
        self._mark.watch(evaluation.log_det)
        return self._checked(evaluation, evaluation.y).log_det

    def forward_shape(self, shape: Sequence[int]) -> Size:
        require_sample_shape(f"{type(self).__name__} shape", shape)
        shape = Size(shape)
        return broadcast_latents(type(self).__name__, shape, self.latent_dim, self.batch_shape) + shape[-1:]

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return self.forward_shape(shape)

    @property
    def inv(self) -> FusedTransform:
        """The inverse, which shares the remembered evaluation."""
        # Held weakly: a cycle would keep the graph of the latest evaluation until the garbage collector comes by.
        inverse = None if self._inverse_made is None else self._inverse_made()
        if inverse is None:
            inverse = InverseTransform(self)
            self._inverse_made = ref(inverse)
        return inverse

    def _call(self, x: Tensor) -> Tensor:
        return self.forward_with_log_det(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_with_log_det(y)[0]

    def _checked(self, evaluation: Evaluation, found: Tensor) -> Evaluation:
        """Refuse an evaluation in which what was found, or the log-determinant, is NaN or infinite."""
        if self.is_finite and all_finite(found, evaluation.log_det) is False:
            remedy = "Its context or latents are NaN or infinite, or so large that they overflow."
            got = f"NaN or infinity in {found.dtype}"
            raise InvalidInputError(complaint(f"value and log-det of {type(self).__name__}", "finite", got, remedy))
        return evaluation

    def _remember(self, evaluation: Evaluation, *, found: Tensor) -> Evaluation:
        """Check what was found, x or y, and keep the evaluation until a backward pass goes through it."""
        self._checked(evaluation, found)
        self._keep(evaluation, found)
        return evaluation


class EvaluatedTransform(FusedTransform):
    """A fused transform whose primitives are its evaluations, as they find more than value and log-determinant.

    Subclasses write `forward_evaluation`, `inverse_evaluation` and `scored_evaluation`.
    """

    @abstractmethod
    def forward_evaluation(self, x: Tensor) -> Evaluation: ...

    @abstractmethod
    def inverse_evaluation(self, y: Tensor) -> Evaluation: ...

    @abstractmethod
    def scored_evaluation(self, x: Tensor, score: Tensor) -> Evaluation: ...

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        evaluation = self.forward_evaluation(x)
        return evaluation.y, evaluation.log_det

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        evaluation = self.inverse_evaluation(y)
        return evaluation.x, evaluation.log_det

    def forward_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        evaluation = self.scored_evaluation(x, score)
        return evaluation.y, evaluation.log_det, cast(Tensor, evaluation.score)


class InverseTransform(FusedTransform):
    """The inverse of a fused transform, `transform.inv`; it keeps nothing itself.

    Arguments:
        transform: What is inverted.
    """

    @checked
    def __init__(self, transform: FusedTransform) -> None:
        super().__init__(transform.latent_dim, transform.batch_shape, cache_size=transform._cache_size)
        self.transform = transform

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> constraints.Constraint:
        return self.transform.codomain

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> constraints.Constraint:
        return self.transform.domain

    @property
    def inv(self) -> FusedTransform:
        return self.transform

    @property
    def is_regularized(self) -> bool:
        return self.transform.is_regularized

    @property
    def is_estimated(self) -> bool:
        return self.transform.is_estimated

    def exact(self) -> FusedTransform:
        return self.transform.exact().inv

    def renewed_by(self, build: Callable[[], FusedTransform]) -> Self:
        self.transform.renewed_by(lambda: build().inv)
        return self

    def adopt(self, other: FusedTransform) -> None:
        self.transform.adopt(other.inv)

    def dependencies(self) -> Sequence[Tensor]:
        return self.transform.sources()

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.transform.inverse_with_log_det(x)
        return y, -log_det

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self.transform.forward_with_log_det(y)
        return x, -log_det

    def forward_evaluation(self, x: Tensor) -> Evaluation:
        return self.transform.inverse_evaluation(x).inverted()

    def inverse_evaluation(self, y: Tensor) -> Evaluation:
        return self.transform.forward_evaluation(y).inverted()

    def evaluate(self, x: Tensor) -> Evaluation:
        return self.transform.evaluate_inverse(x).inverted()

    def evaluate_inverse(self, y: Tensor) -> Evaluation:
        return self.transform.evaluate(y).inverted()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.transform.log_abs_det_jacobian(y, x)

    def with_cache(self, cache_size: int = 1) -> FusedTransform:
        return self.transform.with_cache(cache_size).inv

    def forward_shape(self, shape: Sequence[int]) -> Size:
        return self.transform.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        return self.transform.forward_shape(shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InverseTransform) and self.transform == other.transform
