"""What every transform of the library shares: fused value and log-det, checks, and a cache that cannot go stale."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, cast
from weakref import ref

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from vae_flows.call_stack import calling_objective, warn_of_bias
from vae_flows.checks import checked, described, require_sample_shape
from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint
from vae_flows.tensors.graphs import BackwardMark
from vae_flows.tensors.precision import full_precision
from vae_flows.tensors.shapes import broadcast_batch, broadcast_latents, is_dense
from vae_flows.tensors.tracing import all_finite
from vae_flows.transforms.memory import Memory
from vae_flows.transforms.records import Evaluation
from vae_flows.transforms.scores import evaluate_with_score as carry_score

__all__ = [
    "FusedTransform",
    "InverseTransform",
    "evaluate_with_score",
    "forward_with_score",
]


class FusedTransform(Transform):
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
        _require_cache_size(cache_size)
        super().__init__(cache_size=cache_size)
        self.latent_dim = latent_dim
        self.batch_shape = Size(batch_shape)
        self._latest: Memory | None = None
        self._mark = BackwardMark()
        self._build: Callable[[], FusedTransform] | None = None
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
        _check_score(x, score)
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
                return evaluation(*given)
        except RuntimeError as error:
            # Looked at here alone: to compare devices at each evaluation would cost more than it tells.
            self._refuse_other_devices(given[0], error)
            raise

    def _refuse_other_devices(self, z: Tensor, error: RuntimeError) -> None:
        others = {source.device for source in self.sources()} - {z.device}
        if others and not isinstance(error, VAEFlowsError):
            expected, got = f"latents on {', '.join(map(str, others))}, as its parameters", f"latents on {z.device}"
            raise InvalidInputError(complaint(type(self).__name__, expected, got, "Move them by .to(…).")) from error

    def dependencies(self) -> Sequence[Tensor]:
        """Tensors beside its attributes that may change while the transform lives, such as a network's parameters."""
        return ()

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

    def with_cache(self, cache_size: int = 1) -> FusedTransform:
        """Return this transform with another cache size; the parameters are shared."""
        _require_cache_size(cache_size)
        if cache_size == self._cache_size:
            return self
        other = self._copied()
        other._cache_size = cache_size
        return other

    @property
    def inv(self) -> FusedTransform:
        """The inverse, which shares the remembered evaluation."""
        # Held weakly: a cycle would keep the graph of the latest evaluation until the garbage collector comes by.
        inverse = None if self._inverse_made is None else self._inverse_made()
        if inverse is None:
            inverse = InverseTransform(self)
            self._inverse_made = ref(inverse)
        return inverse

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "_latest": None,
            "_inverse_made": None,
            "_mark": BackwardMark(),
            "_build": None,
        }

    def _call(self, x: Tensor) -> Tensor:
        return self.forward_with_log_det(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.inverse_with_log_det(y)[0]

    def sources(self) -> list[Tensor]:
        """Return the tensors that evaluations are made from: attributes, alone or in sequences, and `dependencies`."""
        found = list(self.dependencies())
        for value in vars(self).values():
            if isinstance(value, Tensor):
                found.append(value)
            elif type(value) in (tuple, list):
                found.extend(part for part in value if isinstance(part, Tensor))
        return list({id(tensor): tensor for tensor in found}.values())

    def renewed_by(self, build: Callable[[], FusedTransform]) -> Self:
        """Take parameters that `build` makes anew, once a backward pass may have freed the graph of the present ones.

        Arguments:
            build: Returns a transform of the same kind and parts.
        """
        self._build = build
        return self

    def adopt(self, other: FusedTransform) -> None:
        """Take the parameters of another transform of the same kind; settings of the cache stay."""
        own = {"_latest", "_mark", "_build", "_inverse_made", "_cache_size", "_inv"}
        vars(self).update({name: value for name, value in vars(other).items() if name not in own})

    def _renew(self, z: Tensor) -> None:
        """Forget what has gone through a backward pass, where gradients may be asked for again."""
        if self._mark.passed and torch.is_grad_enabled():
            self._latest, self._mark = None, BackwardMark()
            if self._build is not None:
                with full_precision(z):
                    self.adopt(self._build())

    def _copied(self) -> Self:
        other = copy.copy(self)
        other._mark, other._build = self._mark, self._build
        return other

    def _checked(self, evaluation: Evaluation, found: Tensor) -> Evaluation:
        """Refuse an evaluation in which what was found, or the log-determinant, is NaN or infinite."""
        if self.is_finite and all_finite(found, evaluation.log_det) is False:
            remedy = "Its context or latents are NaN or infinite, or so large that they overflow."
            got = f"NaN or infinity in {found.dtype}"
            raise InvalidInputError(complaint(f"value and log-det of {type(self).__name__}", "finite", got, remedy))
        return evaluation

    def _recalled(self, x: Tensor | None = None, y: Tensor | None = None) -> Evaluation | None:
        """Return the latest evaluation if it is that of these identical tensors, and may be used again."""
        latest = self._latest
        if latest is None or (x is None and y is None) or (x is not None and x is not latest.evaluation.x):
            return None
        if y is not None and y is not latest.evaluation.y:
            return None
        return latest.evaluation if latest.holds(self.sources) else None

    def _remember(self, evaluation: Evaluation, *, found: Tensor) -> Evaluation:
        """Check what was found, x or y, and keep the evaluation until a backward pass goes through it."""
        self._mark.watch(found, evaluation.log_det, evaluation.regularization)
        self._checked(evaluation, found)
        if self._cache_size:
            self._latest = Memory.of(evaluation, self.sources)
        return evaluation


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


def _require_cache_size(cache_size: object) -> None:
    if type(cache_size) is not int or cache_size not in (0, 1):
        raise InvalidInputError(complaint("cache_size", "0 or 1", described(cache_size)))


def _check_score(x: Tensor, score: Tensor) -> None:
    if not is_dense(x):
        raise InvalidInputError(complaint("x of a score", "a floating-point tensor", described(x)))
    if not is_dense(score) or (score.shape, score.dtype, score.device) != (x.shape, x.dtype, x.device):
        raise InvalidInputError(complaint("score", f"what x is, {described(x)}", described(score)))


@checked
def forward_with_score(transform: Transform, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Apply any transform, of this library, PyTorch, Pyro or another, and carry the score of x to that of y.

    Fused transforms remember the evaluation as they do when called. Of other transforms, x is taken in the shape that
    they broadcast it to, and the Jacobian is that of one event.

    Arguments:
        transform: The transform.
        x: `(*shape, *event)`.
        score: :math:`\partial \log q_0(x) / \partial x`, of the shape of x.

    Returns:
        y, the log-determinant, and the score of y, of the shape of y and without a graph. Where y has more numbers than
        x, as on a simplex, it is the score in the tangent space.

    Raises:
        InvalidInputError: x or the score has a wrong shape.

    Example:
        >>> from torch.distributions.transforms import ExpTransform
        >>> y, log_det, score = forward_with_score(ExpTransform(), torch.zeros(2), torch.zeros(2))
        >>> y, score  # the density of y is 1 / y, up to a constant
        (tensor([1., 1.]), tensor([-1., -1.]))
    """
    evaluation = evaluate_with_score(transform, x, score)
    return evaluation.y, evaluation.log_det, cast(Tensor, evaluation.score)


def evaluate_with_score(transform: Transform, x: Tensor, score: Tensor) -> Evaluation:
    """Do what `forward_with_score` does, and return the record."""
    _check_score(x, score)
    if isinstance(transform, FusedTransform):
        return transform.evaluate_with_score(x, score)
    with full_precision(x):

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            y = cast(Tensor, transform(point))
            return y, transform.log_abs_det_jacobian(point, y)

        shape = transform.inverse_shape(transform.forward_shape(x.shape))
        domain_dim, codomain_dim = transform.domain.event_dim, transform.codomain.event_dim
        return Evaluation(
            x,
            *carry_score(
                evaluate, x.expand(shape), score.expand(shape), domain_dim=domain_dim, codomain_dim=codomain_dim
            ),
        )
