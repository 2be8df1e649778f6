"""Likelihoods p(x | z): modules that turn a decoder's output into a distribution.

A likelihood says how many parameters a value takes, what its distribution is, and which values it accepts. Binary
images take a Bernoulli, grey images a categorical over their levels: the benchmark's choice for Frey Faces (van den
Berg et al. 2018, "Sylvester Normalizing Flows for Variational Inference"; Grathwohl et al. 2019, "FFJORD").
"""

from vae_flows.likelihoods.base import Likelihood
from vae_flows.likelihoods.bernoulli import BernoulliLikelihood
from vae_flows.likelihoods.categorical import CategoricalLikelihood, GreyLevels
from vae_flows.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from vae_flows.likelihoods.counts import NegativeBinomialLikelihood, PoissonLikelihood
from vae_flows.likelihoods.discretized_logistic import DiscretizedLogisticLikelihood
from vae_flows.likelihoods.real import GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood
from vae_flows.likelihoods.registry import available_likelihoods, make_likelihood, register_likelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "GaussianLikelihood",
    "GreyLevels",
    "LaplaceLikelihood",
    "Likelihood",
    "NegativeBinomialLikelihood",
    "PoissonLikelihood",
    "StudentTLikelihood",
    "available_likelihoods",
    "make_likelihood",
    "register_likelihood",
]
