"""The ELBO, and the importance-weighted and Rényi bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_flows.call_stack import warn_of_bias
from vae_flows.checks import checked, described
from vae_flows.distributions import exact_where_cheap, is_estimated
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.objectives.draws import GradientEstimator, LogDensity, draw, draw_record, evaluate_log_density
from vae_flows.ode.work_counts import WorkCount, WorkMeter, total_work
from vae_flows.shown import shown
from vae_flows.tensors.shapes import is_dense

__all__ = [
    "ELBO",
    "elbo",
    "for_nonlinear_bound",
    "importance_weighted_bound",
    "renyi_average",
    "renyi_bound",
    "renyi_terms",
]

BOUNDS = "importance-weighted or Rényi bound"


@shown
@dataclass(frozen=True)
class ELBO:
    r"""The terms of :math:`\mathrm{ELBO} = E_q[\log p(x|z)] - \beta\,\mathrm{KL}`, in nats, one entry an example.

    Arguments:
        elbo: The bound, or another one in its place.
        log_likelihood: log p(x | z), averaged over particles.
        kl: log q(z | x) − log p(z), averaged over particles: an estimate, which may be negative.
        regularization: What the flow's regularisers add to the loss in training, `None` without any. It is no part of
            the bound.
        meters: The meters of the posterior's solves, which go on through the backward pass.
    """

    elbo: Tensor
    log_likelihood: Tensor
    kl: Tensor
    regularization: Tensor | None = None
    meters: tuple[WorkMeter, ...] = ()

    @property
    def objective(self) -> Tensor:
        """What training maximises: the bound, less the regularisation."""
        return self.elbo if self.regularization is None else self.elbo - self.regularization

    @property
    def work(self) -> WorkCount | None:
        """What the posterior's solves have cost until now, `None` without any."""
        return total_work(self.meters)


@checked
def elbo(
    log_likelihood: LogDensity,
    log_prior: LogDensity,
    q: Distribution,
    num_particles: int = 1,
    *,
    beta: float = 1.0,
    gradient: GradientEstimator = "reparameterized",
) -> ELBO:
    r"""Estimate :math:`E_q[\log p(x|z)] - \beta\, E_q[\log q(z) - \log p(z)]` of each example.

    Source: Kingma and Welling (2014), "Auto-encoding variational Bayes"; for β, Higgins et al. (2017), "beta-VAE:
    learning basic visual concepts with a constrained variational framework"; for the `path` gradient, Roeder et al.
    (2017), "Sticking the landing: simple, lower-variance gradient estimators for variational inference".

    Arguments:
        log_likelihood: Maps z `(num_particles, *batch, *event)` to log p(x | z) `(num_particles, *batch)`.
        log_prior: Maps z to log p(z), likewise, such as `prior.log_prob`.
        q: The approximate posterior, a `FlowDistribution` or any reparameterised distribution of PyTorch or Pyro.
        num_particles: Draws per example.
        beta: Weight of the KL term, 1 for the bound itself.
        gradient: `reparameterized`, or `path` for sticking the landing.

    Returns:
        The terms, `(*batch)`, with the flow's regularisation where it has any.

    Raises:
        InvalidInputError: Fewer than one particle, a β that is not finite, a log-density of another shape, or a q
            without reparameterised samples.
        UnknownNameError: There is no such gradient.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> x, prior = torch.randn(5, 3), Independent(Normal(torch.zeros(3), 1.0), 1)
        >>> q = Independent(Normal(x / 2, 0.5**0.5), 1)  # the true posterior
        >>> terms = elbo(lambda z: Normal(z, 1.0).log_prob(x).sum(-1), prior.log_prob, q)
        >>> torch.allclose(terms.elbo, Normal(0.0, 2**0.5).log_prob(x).sum(-1))
        True
    """
    _check_finite("beta", beta)
    drawn = draw_record(q, num_particles, gradient)
    z, log_q = drawn.z, drawn.log_q
    reconstruction = evaluate_log_density("log_likelihood", log_likelihood, z, log_q.shape).mean(0)
    kl = (log_q - evaluate_log_density("log_prior", log_prior, z, log_q.shape)).mean(0)
    regularization = None if drawn.regularization is None else drawn.regularization.mean(0)
    return ELBO(reconstruction - beta * kl, reconstruction, kl, regularization, drawn.meters)


@checked
def importance_weighted_bound(
    log_joint: LogDensity,
    q: Distribution,
    num_particles: int,
    *,
    chunk_size: int | None = None,
    gradient: GradientEstimator = "reparameterized",
) -> Tensor:
    r"""Estimate :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k)` of each example: `renyi_bound` at α = 0.

    In expectation a lower bound of log p(x), tighter with each particle, provided that log q is exact; see
    `renyi_bound` for flows whose trace is estimated.

    Source: Burda et al. (2016), "Importance weighted autoencoders", equation 8; for the `path` gradient, Tucker et al.
    (2019), "Doubly reparameterized gradient estimators for Monte Carlo objectives".

    Arguments:
        log_joint: Maps z `(K, *batch, *event)` to log p(x, z) `(K, *batch)`.
        q: The approximate posterior, any reparameterised distribution.
        num_particles: K.
        chunk_size: Particles computed at once; all by default. It saves memory where gradients are disabled.
        gradient: `reparameterized`, or `path` for doubly reparameterised gradients.

    Returns:
        The bound in nats, `(*batch)`.

    Raises:
        InvalidInputError: As `renyi_bound`.
        UnknownNameError: There is no such gradient.

    Example:
        >>> from torch.distributions import Normal
        >>> x = torch.randn(5)
        >>> bound = importance_weighted_bound(
        ...     lambda z: Normal(z, 1.0).log_prob(x) + Normal(0.0, 1.0).log_prob(z), Normal(x / 2, 0.5**0.5), 3
        ... )
        >>> torch.allclose(bound, Normal(0.0, 2**0.5).log_prob(x))  # exact, since q is the posterior
        True
    """
    return renyi_bound(log_joint, q, 0.0, num_particles, chunk_size=chunk_size, gradient=gradient)


@checked
def renyi_bound(
    log_joint: LogDensity,
    q: Distribution,
    alpha: float,
    num_particles: int,
    *,
    chunk_size: int | None = None,
    gradient: GradientEstimator = "reparameterized",
) -> Tensor:
    r"""Estimate :math:`\frac{1}{1-\alpha} \log \frac1K \sum_k (p(x, z_k) / q(z_k))^{1-\alpha}` of each example.

    With K growing it approaches :math:`\log p(x) - D_\alpha(q \,\|\, p(z|x))`: the ELBO at α = 1, the
    importance-weighted bound of log p(x) at α = 0, and an upper bound of log p(x) for negative α. For finite K the
    estimate is biased, downwards for α < 1.

    That takes an exact log q. Of a flow whose trace is estimated, in training mode, the exact trace is taken where it
    costs about as much: dynamics of one or two hidden layers with amortised shifts (`amortization="bias"` or
    `"concat"`). Elsewhere a `BiasedBoundWarning` is given, as for several particles and α ≠ 1 the bound may exceed
    log p(x) and its gradients are biased.

    Source: Li and Turner (2016), "Rényi divergence variational inference", sections 3 and 4.

    Arguments:
        log_joint: Maps z `(K, *batch, *event)` to log p(x, z) `(K, *batch)`.
        q: The approximate posterior, any reparameterised distribution.
        alpha: Order of the divergence, any finite number.
        num_particles: K.
        chunk_size: Particles computed at once; all by default. It saves memory where gradients are disabled.
        gradient: `reparameterized`, or `path` for doubly reparameterised gradients.

    Returns:
        The bound in nats, `(*batch)`.

    Raises:
        InvalidInputError: A size below one, an α that is not finite, a log-density of another shape, or a q without
            reparameterised samples.
        UnknownNameError: There is no such gradient.

    Example:
        >>> from torch.distributions import Normal
        >>> joint, q = Normal(0.0, 1.0).log_prob, Normal(torch.zeros(5), 1.0)
        >>> renyi_bound(joint, q, alpha=0.5, num_particles=3)  # log p(x) = 0, and q is the posterior
        tensor([0., 0., 0., 0., 0.])
    """
    chunk_size = num_particles if chunk_size is None else chunk_size
    require_positive("renyi_bound", num_particles=num_particles, chunk_size=chunk_size)
    _check_finite("alpha", alpha)
    if alpha != 1 and num_particles > 1:
        q = for_nonlinear_bound("log q", q)
    parts = []
    cotangent_scale = _CotangentScale()
    for start in range(0, num_particles, chunk_size):
        particles = slice(start, min(start + chunk_size, num_particles))
        z, log_q = draw(q, particles.stop - start, gradient)
        if gradient == "path" and z.requires_grad:
            cotangent_scale.apply_to(z, particles)
        parts.append(evaluate_log_density("log_joint", log_joint, z, log_q.shape) - log_q)
    log_weights = torch.cat(parts)
    # Each particle's part of the gradient comes with the factor w̃ from the average; these make it α w̃ + (1 − α) w̃².
    cotangent_scale.factors = alpha + (1 - alpha) * ((1 - alpha) * log_weights.detach()).softmax(0)
    return renyi_average(log_weights, alpha)


@checked
def renyi_terms(
    log_likelihood: LogDensity,
    log_prior: LogDensity,
    q: Distribution,
    alpha: float,
    num_particles: int,
    *,
    beta: float = 1.0,
    gradient: GradientEstimator = "reparameterized",
) -> ELBO:
    r"""Estimate the Rényi bound of weights :math:`w = p(x|z)\, (p(z) / q(z))^\beta`, and the terms of the ELBO.

    What training maximises: β < 1 is its warm-up, and regularisers and the work of solves are in the record. With β = 1
    it is `renyi_bound`, with α = 1 the bound of `elbo`. With the `path` gradient a draw has the coefficient
    :math:`c_k = (1 - \beta (1 - \alpha))\, \tilde w_k + \beta (1 - \alpha)\, \tilde w_k^2`, since of the gradient of
    log w in the parameters of q only the share β is that of a score.

    Arguments:
        log_likelihood: Maps z `(K, *batch, *event)` to log p(x | z) `(K, *batch)`.
        log_prior: Maps z to log p(z), likewise.
        q: The approximate posterior, any reparameterised distribution.
        alpha: Order of the divergence, any finite number; 0 for the importance-weighted bound.
        num_particles: K.
        beta: Exponent of p(z) / q(z).
        gradient: `reparameterized`, or `path` for doubly reparameterised gradients.

    Returns:
        The terms, `(*batch)`, the bound in place of the ELBO.

    Raises:
        InvalidInputError: As `renyi_bound`, or a β that is not finite.
        UnknownNameError: There is no such gradient.

    Example:
        >>> from torch.distributions import Normal
        >>> x = torch.randn(5)
        >>> q = Normal(x / 2, 0.5**0.5)  # the true posterior
        >>> terms = renyi_terms(lambda z: Normal(z, 1.0).log_prob(x), Normal(0.0, 1.0).log_prob, q, 0.5, 3)
        >>> torch.allclose(terms.elbo, Normal(0.0, 2**0.5).log_prob(x))
        True
    """
    require_positive("renyi_terms", num_particles=num_particles)
    _check_finite("alpha", alpha)
    _check_finite("beta", beta)
    if alpha != 1 and num_particles > 1:
        q = for_nonlinear_bound("log q", q)
    drawn = draw_record(q, num_particles, gradient)
    z, log_q = drawn.z, drawn.log_q
    cotangent_scale = _CotangentScale()
    if gradient == "path" and z.requires_grad:
        cotangent_scale.apply_to(z, slice(0, num_particles))
    reconstruction = evaluate_log_density("log_likelihood", log_likelihood, z, log_q.shape)
    kl = log_q - evaluate_log_density("log_prior", log_prior, z, log_q.shape)
    log_weights = reconstruction - beta * kl
    share = beta * (1 - alpha)
    cotangent_scale.factors = 1 - share + share * ((1 - alpha) * log_weights.detach()).softmax(0)
    regularization = None if drawn.regularization is None else drawn.regularization.mean(0)
    bound = renyi_average(log_weights, alpha)
    return ELBO(bound, reconstruction.mean(0), kl.mean(0), regularization, drawn.meters)


@checked
def renyi_average(log_weights: Tensor, alpha: float) -> Tensor:
    r"""Return :math:`\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}`, at α = 1 its limit, the mean of log w.

    Exact to rounding for every α, also where 1 − α is so small that the sum is almost K.

    Arguments:
        log_weights: log w, `(K, *batch)`.
        alpha: Order, any finite number.

    Returns:
        The average, `(*batch)`; its derivative in log w is the normalised weight.

    Raises:
        InvalidInputError: α is not finite.

    Example:
        >>> log_weights = torch.tensor([0.0, 1.0])
        >>> [f"{renyi_average(log_weights, alpha):.4f}" for alpha in (0.0, 0.999999, 1.0, 2.0)]
        ['0.6201', '0.5000', '0.5000', '0.3799']
    """
    _check_finite("alpha", alpha)
    if not is_dense(log_weights) or log_weights.dim() == 0 or len(log_weights) == 0:
        expected = "floating-point values (K, *batch) with K of at least 1"
        raise InvalidInputError(complaint("renyi_average log_weights", expected, described(log_weights)))
    if alpha == 1:
        return log_weights.mean(0)
    exponents = (1 - alpha) * log_weights
    far = exponents.logsumexp(0) - math.log(len(exponents))
    # Of exponents near zero the logarithm of the mean would lose the digits that division by 1 − α asks for.
    is_near = exponents.abs().amax(0) <= 1
    near = torch.where(is_near, exponents, 0.0).expm1().mean(0).log1p()
    return torch.where(is_near, near, far) / (1 - alpha)


def for_nonlinear_bound(subject: str, q: Distribution, objective: str = BOUNDS) -> Distribution:
    """Return q as a bound takes it that is not linear in its log-densities: exact where that is cheap.

    The average of weights whose logarithms are noisy lies above that of the weights, so that such a bound may exceed
    log p(x), and its gradients are biased. Where log-densities stay estimates, a `BiasedBoundWarning` says so.

    Arguments:
        subject: What the log-density of q is called in the warning.
        q: Any distribution.
        objective: What the bound, or whatever else averages densities, is called there.
    """
    q = exact_where_cheap(q)
    if is_estimated(q):
        warn_of_bias(objective, subject)
    return q


class _CotangentScale:
    """Multiplies gradients that reach draws by factors which are known only once the draws have been scored."""

    def __init__(self) -> None:
        self.factors = torch.empty(0)

    def apply_to(self, z: Tensor, particles: slice) -> None:
        """Scale whatever gradient reaches `z`, which holds these of the draws."""

        def scaled(cotangent: Tensor) -> Tensor:
            factors = self.factors[particles]
            return cotangent * factors.reshape(factors.shape + (1,) * (cotangent.dim() - factors.dim()))

        z.register_hook(scaled)


def _check_finite(name: str, number: float) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise InvalidInputError(complaint(name, "a finite number", repr(number)))
