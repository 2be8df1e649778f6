"""One valid call of every public callable of `vae_flows.likelihoods`."""

from __future__ import annotations

from collections.abc import Callable

import torch

import vae_flows as vf
from tests.valid_calls.parts import (
    BATCH,
    images,
)
from tests.wrong_values import ValidCall
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood, GreyLevels

__all__ = ["CALLS"]


CALLS: dict[str, Callable[[], ValidCall]] = {
    "likelihoods.Likelihood": lambda: ValidCall(vf.likelihoods.Likelihood, {"parameters_per_pixel": 1, "event_dim": 3}),
    "likelihoods.Likelihood.check": lambda: ValidCall(BernoulliLikelihood().check, {"x": images()}),
    "likelihoods.Likelihood.log_prob": lambda: ValidCall(
        BernoulliLikelihood().log_prob, {"parameters": images(), "x": images()}
    ),
    "likelihoods.Likelihood.check_parameters": lambda: ValidCall(
        BernoulliLikelihood().check_parameters, {"parameters": images()}
    ),
    "likelihoods.BernoulliLikelihood": lambda: ValidCall(
        BernoulliLikelihood, {"event_dim": 3}, lambda made: made(images()).mean
    ),
    "likelihoods.BernoulliLikelihood.forward": lambda: ValidCall(BernoulliLikelihood(), {"parameters": images()}),
    "likelihoods.CategoricalLikelihood.log_prob": lambda: ValidCall(
        CategoricalLikelihood(levels=2).log_prob, {"parameters": torch.zeros(BATCH, 2, 4, 4), "x": images()}
    ),
    "likelihoods.CategoricalLikelihood": lambda: ValidCall(
        CategoricalLikelihood, {"levels": 2, "event_dim": 3}, lambda made: made(torch.zeros(3, 2, 4, 4)).mean
    ),
    "likelihoods.CategoricalLikelihood.forward": lambda: ValidCall(
        CategoricalLikelihood(2), {"parameters": torch.zeros(3, 2, 4, 4)}
    ),
    "likelihoods.GaussianLikelihood": lambda: ValidCall(
        vf.likelihoods.GaussianLikelihood, {"scale": 1.0, "event_dim": 3}, lambda made: made(images()).mean
    ),
    "likelihoods.GaussianLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.GaussianLikelihood(), {"parameters": images()}
    ),
    "likelihoods.LaplaceLikelihood": lambda: ValidCall(
        vf.likelihoods.LaplaceLikelihood, {"scale": 1.0, "event_dim": 3}, lambda made: made(images()).mean
    ),
    "likelihoods.LaplaceLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.LaplaceLikelihood(), {"parameters": images()}
    ),
    "likelihoods.StudentTLikelihood": lambda: ValidCall(
        vf.likelihoods.StudentTLikelihood,
        {"degrees_of_freedom": 3.0, "scale": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "likelihoods.StudentTLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.StudentTLikelihood(), {"parameters": images()}
    ),
    "likelihoods.ContinuousBernoulliLikelihood": lambda: ValidCall(
        vf.likelihoods.ContinuousBernoulliLikelihood, {"event_dim": 3}, lambda made: made(images()).mean
    ),
    "likelihoods.ContinuousBernoulliLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.ContinuousBernoulliLikelihood(), {"parameters": images()}
    ),
    "likelihoods.DiscretizedLogisticLikelihood": lambda: ValidCall(
        vf.likelihoods.DiscretizedLogisticLikelihood,
        {"levels": 4, "scale": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "likelihoods.DiscretizedLogisticLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.DiscretizedLogisticLikelihood(), {"parameters": torch.rand(4, 2, 4, 4)}
    ),
    "likelihoods.PoissonLikelihood": lambda: ValidCall(
        vf.likelihoods.PoissonLikelihood, {"event_dim": 3}, lambda made: made(images()).mean
    ),
    "likelihoods.PoissonLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.PoissonLikelihood(), {"parameters": images()}
    ),
    "likelihoods.NegativeBinomialLikelihood": lambda: ValidCall(
        vf.likelihoods.NegativeBinomialLikelihood,
        {"concentration": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "likelihoods.NegativeBinomialLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.NegativeBinomialLikelihood(), {"parameters": images()}
    ),
    "likelihoods.Likelihood.mean": lambda: ValidCall(BernoulliLikelihood().mean, {"parameters": images()}),
    "likelihoods.Likelihood.sample": lambda: ValidCall(
        BernoulliLikelihood().sample, {"parameters": images(), "sample_shape": (2,)}
    ),
    "likelihoods.Likelihood.split": lambda: ValidCall(BernoulliLikelihood().split, {"parameters": images()}),
    "likelihoods.Likelihood.log_bin_size": lambda: ValidCall(BernoulliLikelihood().log_bin_size, {"levels": 256}),
    "likelihoods.available_likelihoods": lambda: ValidCall(vf.likelihoods.available_likelihoods),
    "likelihoods.make_likelihood": lambda: ValidCall(vf.likelihoods.make_likelihood, {"name": "gaussian"}),
    "likelihoods.register_likelihood": lambda: ValidCall(
        vf.likelihoods.register_likelihood, {"name": "mine"}, lambda register: register(BernoulliLikelihood)
    ),
    "likelihoods.GreyLevels": lambda: ValidCall(
        GreyLevels,
        {"logits": torch.zeros(2, 1, 3, 4, 4), "event_dim": 3, "validate_args": True},
        lambda made: made.log_prob(made.sample()),
    ),
    "likelihoods.GreyLevels.expand": lambda: ValidCall(
        GreyLevels(torch.zeros(1, 3, 4, 4), 3).expand, {"batch_shape": (2,)}, lambda made: made.sample()
    ),
    "likelihoods.GreyLevels.log_prob": lambda: ValidCall(
        GreyLevels(torch.zeros(1, 3, 4, 4), 3).log_prob, {"value": images()}
    ),
    "likelihoods.GreyLevels.sample": lambda: ValidCall(
        GreyLevels(torch.zeros(1, 3, 4, 4), 3).sample, {"sample_shape": (2,)}
    ),
}
