"""The variational autoencoder: encoder, posterior, decoder and likelihood, in plain PyTorch and as a Pyro model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn

from vae_flows import objectives
from vae_flows.checks import checked, described
from vae_flows.distributions import DiagonalNormal, evaluate, is_regularized
from vae_flows.errors import InvalidInputError, complaint, require_number, require_positive
from vae_flows.likelihoods import Likelihood
from vae_flows.likelihoods.base import REAL
from vae_flows.modules import placement
from vae_flows.objectives import ELBO, GradientEstimator
from vae_flows.persistence.savable import SavableModule
from vae_flows.protocols import Posterior, Prior, condition_posterior, context_size_of, make_prior, size_of
from vae_flows.pyro_modules import register_module
from vae_flows.standardization import Standardization
from vae_flows.tensors.shapes import is_dense

__all__ = ["ELBO", "VAE"]


class VAE(SavableModule):
    """A variational autoencoder with any encoder, decoder, posterior, likelihood and prior.

    Arguments:
        encoder: Maps images `(*batch, *event)` to contexts `(*batch, context_dim)`.
        decoder: Maps latents `(N, latent_dim)` to likelihood parameters `(N, …)`.
        posterior: Maps contexts to q(z | x): an `AmortizedPosterior`, or any module that returns a reparameterised
            distribution of PyTorch or Pyro; see `vae_flows.protocols`.
        likelihood: Maps likelihood parameters to p(x | z).
        prior: p(z) with event shape `(latent_dim,)`: a distribution of PyTorch or Pyro, or a callable or module that
            returns one, such as a `ContinuousNormalizingFlow`. The standard Gaussian by default.
        latent_dim: Size of the latents. By default that of the posterior, prior or decoder that has a `latent_dim`, or
            else that of the first draw.
        standardization: Lets encoder and likelihood see (x − m) / s. Bounds, samples and reconstructions are of x.

    Raises:
        InvalidInputError: A posterior or prior of another kind, or sizes that disagree.

    Example:
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> shape = (1, 4, 4)
        >>> vae = VAE(
        ...     MLPEncoder(shape, hidden_dims=(8,), context_dim=6),
        ...     MLPDecoder(2, shape, hidden_dims=(8,)),
        ...     AmortizedPosterior(2, 6, flow="planar"),
        ...     BernoulliLikelihood(),
        ... )
        >>> terms = vae.elbo(torch.rand(5, *shape))
        >>> terms.elbo.shape, vae.generate(3).shape
        (torch.Size([5]), torch.Size([3, 1, 4, 4]))
    """

    @checked
    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        *,
        latent_dim: int | None = None,
        standardization: Standardization | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(posterior, prior, latent_dim)
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.standardization: Standardization | None = None
        self.standardize(standardization)
        self.prior_model = prior
        self._given_latent_dim = latent_dim
        self._drawn_latent_dim: int | None = None

    def get_config(self) -> Mapping[str, Any]:
        """Return the constructor's arguments."""
        parts = {name: getattr(self, name) for name in ("encoder", "decoder", "posterior", "likelihood")}
        size = {} if self._given_latent_dim is None else {"latent_dim": self._given_latent_dim}
        standardized = {} if self.standardization is None else {"standardization": self.standardization}
        return {**parts, "prior": self.prior_model, **size, **standardized}

    @checked
    def standardize(self, standardization: Standardization | None) -> None:
        """Let encoder and likelihood see standardised examples from here on, and all results be of the examples given.

        Raises:
            InvalidInputError: The likelihood has no density on all real numbers.
        """
        likelihood = self.likelihood
        if standardization is not None and (likelihood.is_discrete or likelihood.support != REAL):
            expected, got = "a likelihood of a density on all real numbers", type(likelihood).__name__
            raise InvalidInputError(complaint("standardization", expected, got, "Such as GaussianLikelihood."))
        self.standardization = standardization

    @property
    def latent_dim(self) -> int:
        """Size of the latents.

        Raises:
            InvalidInputError: None of the parts tells, and nothing was drawn yet.
        """
        size = self._told_latent_dim() or self._drawn_latent_dim
        if size is None:
            expected = "a posterior, prior or decoder with the attribute latent_dim"
            remedy = "Give VAE(…, latent_dim=…), or encode first."
            raise InvalidInputError(complaint("size of the latents of VAE", expected, "none", remedy))
        return size

    @checked
    def encode(self, x: Tensor) -> TorchDistribution:
        """Return q(z | x) for images `(*batch, *event)`, a `FlowDistribution` where the posterior makes one.

        Raises:
            InvalidInputError: Images that the likelihood has no probability for, a context of the wrong size, or a
                posterior that returns something else than `vae_flows.protocols.Posterior` says.
        """
        seen = self._seen(x)
        self.likelihood.check(seen)
        q = condition_posterior(self.posterior, self.encoder(seen), self._told_latent_dim())
        self._drawn_latent_dim = q.event_shape[0]
        return q

    @checked
    def decode(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z) for latents `(*batch, latent_dim)`."""
        p = self.likelihood(self._decoder_output(z))
        return p if self.standardization is None else self.standardization.undone(p)

    @checked
    def prior(self, like: Tensor) -> TorchDistribution:
        """Return p(z): the standard Gaussian on the device and in the dtype of the latents `like`, or what was given.

        Raises:
            InvalidInputError: The prior that was given has another shape than the latents.
        """
        if not is_dense(like) or like.dim() == 0:
            raise InvalidInputError(complaint("VAE.prior like", "latents (*batch, latent_dim)", described(like)))
        if self.prior_model is None:
            zeros = like.new_zeros(like.shape[-1])
            return DiagonalNormal(zeros, torch.ones_like(zeros), validate_args=False)
        return make_prior(self.prior_model, like.shape[-1])

    @checked
    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z) in nats, `(*sample, *batch)`, for images `(*batch, *event)` and latents.

        The images are not checked here: `encode` does that, once, where they enter.

        Arguments:
            x: Images.
            z: Latents `(*sample, *batch, latent_dim)`.

        Raises:
            InvalidInputError: Sizes that disagree.
        """
        log_prob = self.likelihood.log_prob(self._decoder_output(z), self._seen(x))
        return log_prob if self.standardization is None else log_prob + self.standardization.log_abs_det_jacobian()

    @checked
    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats, `(*batch)`, for latents `(*batch, latent_dim)`.

        Raises:
            InvalidInputError: The prior that was given has another shape than the latents.
        """
        self._check_latents(z)
        return self.prior(z).log_prob(z)

    @checked
    def elbo(
        self, x: Tensor, num_particles: int = 1, beta: float = 1.0, gradient: GradientEstimator = "reparameterized"
    ) -> ELBO:
        """Estimate the evidence lower bound of each image from `num_particles` draws of z.

        Arguments:
            x: Images `(*batch, *event)`.
            num_particles: Draws per image.
            beta: Weight of the KL term, 1 for the bound itself.
            gradient: `reparameterized`, or `path` for sticking the landing; see `vae_flows.objectives`.

        Raises:
            InvalidInputError: Bad images, sizes that disagree, or fewer than one particle.
            UnknownNameError: There is no such gradient.
        """
        q = self.encode(x)
        return objectives.elbo(
            self._log_likelihood_of(x), self.log_prior, q, num_particles, beta=beta, gradient=gradient
        )

    @checked
    def importance_weighted_bound(
        self,
        x: Tensor,
        num_particles: int,
        chunk_size: int | None = None,
        gradient: GradientEstimator = "reparameterized",
    ) -> Tensor:
        r"""Estimate :math:`\log \frac1K \sum_k p(x, z_k) / q(z_k | x)` of each image (Burda et al. 2016, equation 8).

        In expectation a lower bound of log p(x), tighter with each particle, provided that log q is exact. Where the
        flow estimates its trace in training mode, the exact one is taken if it is as cheap; a `BiasedBoundWarning`
        says otherwise: call `eval()` first, or make the flow with `divergence="exact"`.

        Arguments:
            x: Images `(*batch, *event)`.
            num_particles: K.
            chunk_size: Particles computed at once; all by default. It saves memory where gradients are disabled.
            gradient: `reparameterized`, or `path` for doubly reparameterised gradients; see `vae_flows.objectives`.

        Returns:
            The bound in nats, shape `(*batch)`.

        Raises:
            InvalidInputError: Bad images, or a size below one.
            UnknownNameError: There is no such gradient.
        """
        return self.renyi_bound(x, 0.0, num_particles, chunk_size, gradient)

    @checked
    def renyi_bound(
        self,
        x: Tensor,
        alpha: float,
        num_particles: int,
        chunk_size: int | None = None,
        gradient: GradientEstimator = "reparameterized",
    ) -> Tensor:
        r"""Estimate the Rényi bound of order α of each image (Li & Turner 2016): the ELBO at α = 1, Burda's at α = 0.

        Arguments:
            x: Images `(*batch, *event)`.
            alpha: Any finite number.
            num_particles: K.
            chunk_size: Particles computed at once; all by default. It saves memory where gradients are disabled.
            gradient: `reparameterized`, or `path` for doubly reparameterised gradients; see `vae_flows.objectives`.

        Returns:
            The bound in nats, shape `(*batch)`.

        Raises:
            InvalidInputError: Bad images, a size below one, or an α that is not finite.
            UnknownNameError: There is no such gradient.
        """
        q, log_likelihood = self.encode(x), self._log_likelihood_of(x)
        log_prior = self._log_prior_for(alpha, num_particles)
        return objectives.renyi_bound(
            lambda z: log_likelihood(z) + log_prior(z),
            q,
            alpha,
            num_particles,
            chunk_size=chunk_size,
            gradient=gradient,
        )

    @checked
    def renyi_terms(
        self,
        x: Tensor,
        alpha: float,
        num_particles: int,
        beta: float = 1.0,
        gradient: GradientEstimator = "reparameterized",
    ) -> ELBO:
        r"""Estimate the Rényi bound of weights :math:`p(x|z)\, (p(z) / q(z|x))^\beta` with the terms of the ELBO.

        Arguments:
            x: Images `(*batch, *event)`.
            alpha: Any finite number; 0 for the importance-weighted bound.
            num_particles: K.
            beta: Exponent of p(z) / q(z | x), 1 for the bound itself.
            gradient: `reparameterized`, or `path` for doubly reparameterised gradients; see `vae_flows.objectives`.

        Raises:
            InvalidInputError: Bad images, a size below one, or an α or β that is not finite.
            UnknownNameError: There is no such gradient.
        """
        q, log_prior = self.encode(x), self._log_prior_for(alpha, num_particles)
        return objectives.renyi_terms(
            self._log_likelihood_of(x), log_prior, q, alpha, num_particles, beta=beta, gradient=gradient
        )

    @checked
    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x' | z) for one draw of z from q(z | x), of the shape of x, to look at.

        It has no graph; `decode(encode(x).rsample()).mean` has one.
        """
        return self.decode(self.encode(x).rsample()).mean

    @checked
    @torch.no_grad()
    def generate(self, count: int) -> Tensor:
        """Return the means of p(x | z) for `count` draws of z from the prior, `(count, *event)`, to look at.

        They have no graph; `decode(z).mean` has one.
        """
        require_positive("VAE", count=count)
        z = self.prior(self._reference()).sample(Size([count]))
        return self.decode(z).mean

    @checked
    def model(self, x: Tensor, beta: float = 1.0) -> Tensor:
        """Pyro model: z from the prior and x from the likelihood, in a plate over the batch `(B, *event)`."""
        require_number("VAE.model", "beta", beta, above=0.0)
        register_module("vae", self)
        batch = self._plate_size(x)
        prior = self.prior(self._reference(x))
        with pyro.plate("batch", batch, dim=-1):
            with poutine.scale(scale=beta):
                z = cast(Tensor, pyro.sample("z", prior))
            pyro.sample("x", self.decode(z), obs=x)
        return z

    @checked
    def guide(self, x: Tensor, beta: float = 1.0) -> Tensor:
        """Pyro guide: z from q(z | x), in a plate over the batch `(B, *event)`."""
        require_number("VAE.guide", "beta", beta, above=0.0)
        register_module("vae", self)
        q = self.encode(x)
        with pyro.plate("batch", self._plate_size(x), dim=-1):
            with poutine.scale(scale=beta):
                z = cast(Tensor, pyro.sample("z", q))
            if is_regularized(q):
                # A guide's factor counts against the bound, as a regulariser should.
                pyro.factor("regularization", cast(Tensor, evaluate(q, z).regularization), has_rsample=True)
        return z

    def _seen(self, x: Tensor) -> Tensor:
        """Return examples as encoder and likelihood see them."""
        return x if self.standardization is None else self.standardization(x)

    def _decoder_output(self, z: Tensor) -> Tensor:
        self._check_latents(z)
        parameters = self.decoder(z.reshape(-1, z.shape[-1]))
        return parameters.reshape(z.shape[:-1] + parameters.shape[1:])

    def _check_latents(self, z: Tensor) -> None:
        size = self._told_latent_dim() or self._drawn_latent_dim
        if not is_dense(z) or not z.dim() or size not in (None, z.shape[-1]):
            expected = f"a floating-point tensor of shape (*batch, {size or 'latent_dim'})"
            raise InvalidInputError(complaint("latents", expected, described(z)))

    def _log_likelihood_of(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: self.log_likelihood(x, z)

    def _log_prior_for(self, alpha: float, num_particles: int) -> Callable[[Tensor], Tensor]:
        """Return log p(z) as the Rényi bound takes it."""
        nonlinear = alpha != 1 and num_particles != 1 and self.prior_model is not None
        return self._prior_for_nonlinear_bound if nonlinear else self.log_prior

    def _prior_for_nonlinear_bound(self, z: Tensor) -> Tensor:
        return objectives.for_nonlinear_bound("log p(z)", self.prior(z)).log_prob(z)

    def _told_latent_dim(self) -> int | None:
        """Return the size of the latents that was given, or that a part has; a distribution has it in its shape."""
        return self._given_latent_dim or next(filter(None, map(size_of, self._sized_parts())), None)

    def _sized_parts(self) -> tuple[object, ...]:
        return self.posterior, self.prior_model, self.decoder

    def _reference(self, x: Tensor | None = None) -> Tensor:
        """Return a tensor with the size, device and dtype of one latent; where no part tells the size, x does."""
        if x is not None and not (self._told_latent_dim() or self._drawn_latent_dim):
            with torch.no_grad():
                self.encode(x)
        device, dtype = placement(self)
        return torch.empty(self.latent_dim, device=device, dtype=dtype)

    def _plate_size(self, x: Tensor) -> int:
        if x.dim() != self.likelihood.event_dim + 1:
            raise InvalidInputError(
                complaint(
                    "x of VAE.model and VAE.guide",
                    f"one batch dimension and {self.likelihood.event_dim} of an example",
                    f"shape {tuple(x.shape)}",
                )
            )
        if not len(x):
            raise InvalidInputError(complaint("x of VAE.model and VAE.guide", "one or more", "none", "See elbo."))
        return len(x)


def _check_sizes(posterior: Posterior, prior: Prior | None, latent_dim: int | None) -> None:
    if latent_dim is not None:
        require_positive("VAE", latent_dim=latent_dim)
    if isinstance(prior, nn.Module) and context_size_of(prior) is not None:
        got = f"context_dim={context_size_of(prior)}"
        raise InvalidInputError(complaint("VAE prior", "an unconditional density", got, "Make it without a context."))
    sizes = {size for size in (latent_dim, size_of(posterior), size_of(prior)) if size is not None}
    if len(sizes) > 1:
        raise InvalidInputError(complaint("VAE latent_dim", "one size of posterior and prior", sorted(sizes)))
