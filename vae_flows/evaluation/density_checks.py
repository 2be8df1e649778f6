r"""Whether a posterior computes what it claims: log-densities without noise, inverses that invert, mass that is one.

| check | condemns |
|---|---|
| `trace_noise` | a trace estimate so noisy that training sees another density |
| `round_trip_error` | an inverse, or a tolerance of the solver, that does not undo the map |
| `density_integral` | a wrong log-determinant: then q does not integrate to one |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Chi2, Distribution, TransformedDistribution

from vae_flows.checks import checked
from vae_flows.distributions import draw_from, evaluate
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import evaluating
from vae_flows.objectives import for_nonlinear_bound
from vae_flows.protocols import condition_posterior
from vae_flows.shown import shown
from vae_flows.vae import VAE

__all__ = ["DensityIntegral", "RoundTripError", "TraceNoise", "density_integral", "round_trip_error", "trace_noise"]

DEGREES_OF_FREEDOM = 3.0
"""Of Student's t as a proposal: so few that its tails are above those of any flow of a Gaussian that is not wild."""
INFLATION = 1.5
"""Factor of its scale over that of the draws."""


@shown
@dataclass(frozen=True, eq=False)
class TraceNoise:
    r"""Deviations of log q in training mode, where traces are estimated, from the exact value at the same z, in nats.

    Arguments:
        mean: Their average over noise draws, `(B,)`; zero in expectation, as the estimate is unbiased.
        standard_deviation: Their spread, `(B,)`.
        num_noise_draws: Noise draws.
    """

    mean: Tensor
    standard_deviation: Tensor
    num_noise_draws: int

    @property
    def root_mean_square(self) -> float:
        """The deviation of one estimate of one image, in nats."""
        return float((self.standard_deviation.square() + self.mean.square()).mean().sqrt())

    @property
    def standard_error(self) -> Tensor:
        """The standard error of `mean`, `(B,)`."""
        return self.standard_deviation / math.sqrt(self.num_noise_draws)


@shown
@dataclass(frozen=True, eq=False)
class RoundTripError:
    """How far the inverse of a flow is from undoing it, at draws of q, the largest over draws, `(*batch)` each.

    Arguments:
        latents: max |T⁻¹(T(z₀)) − z₀| over draws and dimensions.
        log_density: max |log q(z) as drawn − log q(z) of the value alone|, in nats.
    """

    latents: Tensor
    log_density: Tensor


@shown
@dataclass(frozen=True, eq=False)
class DensityIntegral:
    """An estimate of ∫ q(z) dz, `(*batch)` each.

    Arguments:
        value: The integral.
        standard_error: Its Monte-Carlo error.
        effective_sample_size: Of the importance weights; the estimate is as good as that of so many uniform ones.
    """

    value: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor

    @property
    def z_score(self) -> Tensor:
        """Standard errors from one, `(*batch)`."""
        return (self.value - 1) / self.standard_error


@checked
@torch.no_grad()
def trace_noise(vae: VAE, x: Tensor, *, num_noise_draws: int = 50, seed: int = 0) -> TraceNoise:
    """Measure what Hutchinson's estimate of the trace adds to log q(z | x), at one draw of z per image.

    Training differentiates through the noisy values; evaluation does not see them. Zero for discrete flows.

    Arguments:
        vae: The model; its posterior alone is put in training mode meanwhile.
        x: Images `(B, *event)`.
        num_noise_draws: Noise draws, at least 2.
        seed: The same seed gives the same result.

    Raises:
        InvalidInputError: Fewer noise draws, or images that do not fit the model.

    Example:
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> encoder, decoder = MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="none"), BernoulliLikelihood())
        >>> trace_noise(vae, torch.rand(3, *shape)).root_mean_square
        0.0
    """
    require_positive("trace_noise", num_noise_draws=num_noise_draws)
    if num_noise_draws < 2:
        raise InvalidInputError(complaint("trace_noise num_noise_draws", "two or more", num_noise_draws))
    deviations = []
    with evaluating(vae, seed, "trace_noise"):
        drawn = draw_from(vae.encode(x))
        context = vae.encoder(x)
        exact = evaluate(condition_posterior(vae.posterior, context), drawn.z).log_q
        if isinstance(vae.posterior, nn.Module):
            vae.posterior.train()  # until the block ends
        for _ in range(num_noise_draws):
            estimated = evaluate(condition_posterior(vae.posterior, context), drawn.z).log_q
            deviations.append((estimated - exact).double())
    found = torch.stack(deviations)
    return TraceNoise(found.mean(0), found.std(0), num_noise_draws)


@checked
@torch.no_grad()
def round_trip_error(q: Distribution, num_samples: int = 100) -> RoundTripError:
    """Draw from q and invert its transforms, from values that they cannot remember.

    Arguments:
        q: A posterior, such as `vae.encode(x)`; without transforms there is nothing to invert, and the error is zero.
        num_samples: Draws.

    Raises:
        InvalidInputError: `num_samples` is not positive.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> q = AmortizedPosterior(2, 6, flow="planar").double()(torch.randn(3, 6, dtype=torch.float64))
        >>> bool(round_trip_error(q).latents.max() < 1e-8)
        True
    """
    require_positive("round_trip_error", num_samples=num_samples)
    drawn = draw_from(q, (num_samples,))
    if not isinstance(q, TransformedDistribution):
        again = evaluate(q, drawn.z.clone()).log_q
        return RoundTripError(torch.zeros_like(drawn.log_q[0]), (again - drawn.log_q).abs().amax(0))
    start = q.base_dist.sample(Size([num_samples]))
    z = start
    for transform in q.transforms:
        z = cast(Tensor, transform(z))
    log_q = evaluate(q, z).log_q
    # Transforms remember the tensors they made: a copy is a value they do not know.
    again = evaluate(q, z.clone()).log_q
    back = z.clone()
    for transform in reversed(q.transforms):
        back = cast(Tensor, transform.inv(back.clone()))
    error = (back - start).abs().flatten(log_q.dim())
    return RoundTripError(error.amax(-1).amax(0), (again - log_q).abs().amax(0))


@checked
@torch.no_grad()
def density_integral(q: Distribution, num_samples: int = 10_000, chunk_size: int = 10_000) -> DensityIntegral:
    r"""Estimate :math:`\int q(z)\,dz = E_r[q(z) / r(z)]` by importance sampling, in low dimensions.

    The proposal r is Student's t with the mean and covariance of draws of q, widened. Where q has mass far from its
    draws, or the dimension is high, the effective number of weights is small and the standard error not to be trusted.

    Source: the estimator is that of Robert and Casella (2004), "Monte Carlo statistical methods", section 3.3.

    Arguments:
        q: A posterior with event shape `(D,)`, such as `vae.encode(x)`, in evaluation mode.
        num_samples: Draws of r, and of q for fitting it, more than D + 1.
        chunk_size: Draws computed at once.

    Raises:
        InvalidInputError: Too few samples, or q is no distribution of vectors.

    Example:
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> _ = torch.manual_seed(0)
        >>> integral = density_integral(AmortizedPosterior(2, 6, flow="planar")(torch.randn(3, 6)))
        >>> bool((integral.z_score.abs() < 5).all())
        True
    """
    require_positive("density_integral", num_samples=num_samples, chunk_size=chunk_size)
    if len(q.event_shape) != 1 or num_samples < q.event_shape[0] + 2:
        expected = "a distribution of vectors (D,) and more than D + 1 samples"
        raise InvalidInputError(complaint("density_integral", expected, f"{tuple(q.event_shape)}, {num_samples}"))
    q = for_nonlinear_bound("log q", q, "density_integral")
    proposal = _StudentT.fitted_to(q.sample(Size([num_samples])))
    log_ratios = []
    for start in range(0, num_samples, chunk_size):
        z = proposal.sample(min(chunk_size, num_samples - start))
        log_ratios.append(evaluate(q, z).log_q.double() - proposal.log_prob(z.double()))
    ratios = torch.cat(log_ratios).exp()
    sizes = ratios.sum(0).square() / ratios.square().sum(0)
    return DensityIntegral(ratios.mean(0), ratios.std(0) / math.sqrt(num_samples), sizes)


class _StudentT:
    """Student's t of vectors, location + L n / √(g / ν) with n ~ N(0, I) and g ~ χ²_ν."""

    def __init__(self, location: Tensor, scale_tril: Tensor, dtype: torch.dtype) -> None:
        self._location = location
        self._scale_tril = scale_tril
        self._dtype = dtype

    @classmethod
    def fitted_to(cls, draws: Tensor) -> _StudentT:
        """Take mean and covariance of draws `(S, *batch, D)`."""
        values = draws.double()
        location = values.mean(0)
        centred = (values - location).movedim(0, -2)
        covariance = centred.mT @ centred / (len(draws) - 1)
        return cls(location, INFLATION * torch.linalg.cholesky(covariance), draws.dtype)

    def sample(self, count: int) -> Tensor:
        shape = (count, *self._location.shape)
        normal = torch.randn(shape, dtype=torch.float64, device=self._location.device)
        freedom = torch.tensor(DEGREES_OF_FREEDOM, dtype=torch.float64, device=self._location.device)
        spread = (Chi2(freedom).sample(Size(shape[:-1])) / DEGREES_OF_FREEDOM).rsqrt().unsqueeze(-1)
        drawn = self._location + spread * (self._scale_tril @ normal.unsqueeze(-1)).squeeze(-1)
        return drawn.to(self._dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        D, freedom = z.shape[-1], DEGREES_OF_FREEDOM
        centred = (z - self._location).unsqueeze(-1)
        squares = torch.linalg.solve_triangular(self._scale_tril, centred, upper=False).square().sum((-2, -1))
        constant = math.lgamma((freedom + D) / 2) - math.lgamma(freedom / 2) - D / 2 * math.log(freedom * math.pi)
        log_det = self._scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return constant - log_det - (freedom + D) / 2 * (squares / freedom).log1p()
