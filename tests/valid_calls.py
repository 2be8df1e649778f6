"""One valid call of every public callable, with small arguments: a new callable needs a row here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import ExpTransform

import vae_flows as vf
from tests.wrong_values import ValidCall
from vae_flows import distributions, flows, reporting, testing, training
from vae_flows.cnf import (
    BottleneckDivergence,
    ConditionedMLP,
    ContinuousNormalizingFlow,
    ContinuousTransform,
    FunctionField,
    HutchinsonDivergence,
    JacobianNorm,
    KineticEnergy,
    MLPDynamics,
)
from vae_flows.likelihoods import BernoulliLikelihood, CategoricalLikelihood, GreyLevels
from vae_flows.networks import (
    ConvDecoder,
    ConvEncoder,
    GatedConv2d,
    GatedConvTranspose2d,
    GatedLinear,
    MLPDecoder,
    MLPEncoder,
)

__all__ = ["VALID"]

LATENT, CONTEXT, BATCH = 2, 3, 4
SHAPE = (1, 4, 4)
SHEET = {"title": "title", "width": "column"}
SOLVER = vf.ODESolver("euler", options={"step_size": 0.5})


def context() -> Tensor:
    return torch.randn(BATCH, CONTEXT)


def latents() -> Tensor:
    return torch.randn(BATCH, LATENT)


def images() -> Tensor:
    return torch.rand(BATCH, *SHAPE)


def levels() -> vf.data.Images:
    return vf.data.Images(torch.randint(256, (6, 16), dtype=torch.uint8), SHAPE)


def rows() -> vf.data.TensorExamples:
    return vf.data.TensorExamples(torch.randn(6, 2), torch.arange(6))


def streamed() -> vf.data.StreamedExamples:
    return vf.data.StreamedExamples(rows())


def data_set() -> vf.data.DataSet:
    return vf.data.DataSet("small", levels(), levels(), levels(), "grey", "a small one")


def encoder() -> MLPEncoder:
    return MLPEncoder(SHAPE, (4,), CONTEXT)


def decoder() -> MLPDecoder:
    return MLPDecoder(LATENT, SHAPE, (4,))


def posterior(flow: str = "planar") -> vf.AmortizedPosterior:
    return vf.AmortizedPosterior(LATENT, CONTEXT, flow, num_layers=1)


def vae() -> vf.VAE:
    return vf.VAE(encoder(), decoder(), posterior(), BernoulliLikelihood())


def base() -> vf.DiagonalNormal:
    return vf.DiagonalNormal(torch.zeros(BATCH, LATENT), torch.ones(LATENT))


def planar() -> vf.transforms.PlanarTransform:
    return vf.transforms.PlanarTransform(torch.rand(LATENT), torch.rand(LATENT), torch.tensor(0.3))


def density() -> vf.FlowDistribution:
    return vf.FlowDistribution(base(), [planar()])


def conditional(latent: Tensor) -> Tensor:
    return -latent.square().sum(-1)


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(x.new_zeros(LATENT), 1.0).to_event(1))
        pyro.sample("x", Normal(z.sum(-1), 1.0), obs=x[:, 0])


class Encoder(nn.Linear):
    """A network of the caller's own, whose errors are its own."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x)


def in_store(guide: Callable[..., Any]) -> object:
    with pyro.get_param_store().scope():
        return guide(torch.rand(BATCH, 1))


def flow_guide() -> vf.FlowGuide:
    return vf.FlowGuide(Encoder(1, CONTEXT), posterior())


def field() -> Any:
    return FunctionField(lambda t, z: -z).prepare(Size([BATCH, LATENT]))


def cnf() -> ContinuousNormalizingFlow:
    return ContinuousNormalizingFlow(MLPDynamics(LATENT, (4,)), context_dim=CONTEXT, solver=SOLVER)


def small_ffjord() -> vf.FFJORD:
    return vf.FFJORD(LATENT, CONTEXT, hidden_dims=(4,), rank=1, solver=SOLVER)


def folder() -> Path:
    return Path(tempfile.mkdtemp())


def saved() -> Path:
    place = folder() / "saved"
    posterior().save_pretrained(place)
    return place


def store() -> Path:
    path = folder() / "store"
    with pyro.get_param_store().scope():
        pyro.param("scale", torch.tensor(2.0))
        pyro.get_param_store().save(str(path))
    return path


def run(seed: int = 0) -> reporting.Run:
    measured = {"seconds_per_epoch": 3.0, "epoch_seconds": (3.0, 3.0), "epoch_evaluations": (14.0, 20.0)}
    return reporting.Run("data", "planar", seed, negative_elbo=1.0, curve=(2.0, 1.0), **measured)


def summaries() -> tuple[reporting.PosteriorSummary, ...]:
    return reporting.summarize([run(), run(1)])["data"]


def table() -> reporting.Table:
    return reporting.results_table(summaries())


def table_vae() -> vf.VAE:
    parts = MLPEncoder((2,), (4,), CONTEXT), MLPDecoder(LATENT, (2,), (4,)), posterior()
    return vf.VAE(*parts, vf.likelihoods.GaussianLikelihood(scale=1.0, event_dim=1))


def ranks() -> vf.evaluation.CalibrationResult:
    return vf.evaluation.CalibrationResult(torch.randint(0, 10, (20, 1)), num_draws=9)


def drawn(q: Any) -> object:
    return q.log_prob(q.rsample())


def conditioned(flow: Any) -> object:
    return flow(context())(latents())


def applied(transform: Any) -> object:
    x = latents()
    return transform.inv(transform(x)), transform.log_abs_det_jacobian(x, transform(x))


def _flow(kind: Any, **options: Any) -> Callable[[], ValidCall]:
    return lambda: ValidCall(kind, {"latent_dim": LATENT, "context_dim": CONTEXT, **options}, conditioned)


def _methods(prefix: str, make: Callable[[], Any]) -> dict[str, Callable[[], ValidCall]]:
    """The calls of a transform that its own class may answer."""
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "broadcast_shape": lambda: {"z": latents()},
        "forward_shape": lambda: {"shape": (BATCH, LATENT)},
        "inverse_shape": lambda: {"shape": (BATCH, LATENT)},
        "__call__": lambda: {"x": latents()},
        "evaluate": lambda: {"x": latents()},
        "evaluate_inverse": lambda: {"y": latents()},
        "evaluate_with_score": lambda: {"x": latents(), "score": latents()},
        "log_abs_det_jacobian": lambda: {"x": latents(), "y": latents()},
        "with_cache": lambda: {"cache_size": 0},
    }
    return {
        f"{prefix}.{name}": lambda name=name, given=given: ValidCall(getattr(make(), name), given())
        for name, given in calls.items()
    }


VALID: dict[str, Callable[[], ValidCall]] = {
    "available_flows": lambda: ValidCall(vf.available_flows),
    "find_flow": lambda: ValidCall(flows.find_flow, {"name": "planar"}),
    "make_flow": lambda: ValidCall(
        vf.make_flow, {"name": "planar", "latent_dim": LATENT, "context_dim": CONTEXT, "num_layers": 2}, conditioned
    ),
    "register_flow": lambda: ValidCall(
        vf.register_flow, {"name": "valid-call"}, lambda register: register(type("Flow", (flows.IdentityFlow,), {}))
    ),
    "register_class": lambda: ValidCall(
        vf.register_class, {"name": "ValidCall"}, lambda register: register(type("Class", (), {}))
    ),
    "load_param_store": lambda: ValidCall(
        vf.load_param_store, {"path": store(), "map_location": "cpu"}, lambda _: pyro.clear_param_store()
    ),
    # flows
    "AmortizedFlow": lambda: ValidCall(
        type("Flow", (flows.IdentityFlow,), {}), {"latent_dim": LATENT, "context_dim": CONTEXT}
    ),
    "AmortizedFlow.condition": lambda: ValidCall(posterior().flow.condition, {"context": context()}),
    "AmortizedFlow.forward": lambda: ValidCall(posterior().flow, {"context": context()}),
    "IdentityFlow": _flow(flows.IdentityFlow),
    "PlanarFlow": _flow(flows.PlanarFlow, num_layers=2),
    "IAFFlow": _flow(flows.IAFFlow, num_layers=2, hidden_dim=4, num_hidden=1, forget_bias=1.0),
    "OrthogonalSylvesterFlow": _flow(flows.OrthogonalSylvesterFlow, num_layers=2, num_orthogonal=1),
    "HouseholderSylvesterFlow": _flow(flows.HouseholderSylvesterFlow, num_layers=2, num_reflections=1),
    "TriangularSylvesterFlow": _flow(flows.TriangularSylvesterFlow, num_layers=2),
    "PyroFlow": _flow(flows.PyroFlow, family="planar", num_layers=1, orientation="sampling"),
    "ZukoFlow": _flow(flows.ZukoFlow, family="MAF", orientation="sampling", transforms=1),
    "ZukoFlow.train": lambda: ValidCall(
        flows.ZukoFlow(LATENT, CONTEXT, "MAF", transforms=1, hidden_features=(4,)).train, {"mode": True}
    ),
    "FFJORD": _flow(
        vf.FFJORD,
        hidden_dims=(4,),
        num_blocks=1,
        amortization="low_rank",
        rank=1,
        activation="tanh",
        time_conditioning="concat",
        integration_time=0.5,
        train_integration_time=False,
        end_time_jitter=0.1,
        divergence="hutchinson",
        noise="gaussian",
        num_probes=1,
        eval_divergence="exact",
        solver=SOLVER,
        eval_solver=SOLVER,
        regularizers=(KineticEnergy(0.1),),
    ),
    "FFJORD.condition": lambda: ValidCall(small_ffjord().condition, {"context": context()}, lambda t: t(latents())),
    # the posterior and its distributions
    "AmortizedPosterior": lambda: ValidCall(
        vf.AmortizedPosterior,
        {
            "latent_dim": LATENT,
            "context_dim": CONTEXT,
            "flow": "planar",
            "variance_bounds": (0.1, 7.0),
            "num_layers": 2,
        },
        lambda made: drawn(made(context())),
    ),
    "AmortizedPosterior.base": lambda: ValidCall(posterior().base, {"context": context()}, drawn),
    "AmortizedPosterior.forward": lambda: ValidCall(posterior(), {"context": context()}, drawn),
    "DiagonalNormal": lambda: ValidCall(
        vf.DiagonalNormal, {"loc": torch.zeros(2), "scale": torch.ones(2), "validate_args": True}, drawn
    ),
    "DiagonalNormal.expand": lambda: ValidCall(base().expand, {"batch_shape": (5, BATCH)}, drawn),
    "DiagonalNormal.rsample": lambda: ValidCall(base().rsample, {"sample_shape": (5,)}),
    "DiagonalNormal.sample": lambda: ValidCall(base().sample, {"sample_shape": (5,)}),
    "DiagonalNormal.log_prob": lambda: ValidCall(base().log_prob, {"value": latents()}),
    "DiagonalNormal.entropy": lambda: ValidCall(base().entropy),
    "FlowDistribution": lambda: ValidCall(
        vf.FlowDistribution, {"base_distribution": base(), "transforms": [planar()], "validate_args": False}, drawn
    ),
    "FlowDistribution.expand": lambda: ValidCall(density().expand, {"batch_shape": (5, BATCH)}, drawn),
    "FlowDistribution.rsample": lambda: ValidCall(density().rsample, {"sample_shape": (5,)}),
    "FlowDistribution.sample": lambda: ValidCall(density().sample, {"sample_shape": (5,)}),
    "FlowDistribution.log_prob": lambda: ValidCall(density().log_prob, {"value": latents()}),
    "FlowDistribution.rsample_with_log_prob": lambda: ValidCall(
        density().rsample_with_log_prob, {"sample_shape": (5,)}
    ),
    "FlowDistribution.rsample_with_score": lambda: ValidCall(density().rsample_with_score, {"sample_shape": (5,)}),
    "FlowDistribution.draw": lambda: ValidCall(density().draw, {"sample_shape": (5,), "with_score": True}),
    "FlowDistribution.evaluate": lambda: ValidCall(density().evaluate, {"value": latents()}),
    "distributions.evaluate": lambda: ValidCall(distributions.evaluate, {"q": density(), "value": latents()}),
    "draw_from": lambda: ValidCall(distributions.draw_from, {"q": density(), "sample_shape": (5,), "with_score": True}),
    "require_reparameterized": lambda: ValidCall(distributions.require_reparameterized, {"q": density()}),
    "rsample_with_score": lambda: ValidCall(distributions.rsample_with_score, {"q": density(), "sample_shape": (5,)}),
    "SavableModule.save_pretrained": lambda: ValidCall(posterior().save_pretrained, {"folder": folder() / "model"}),
    "SavableModule.from_pretrained": lambda: ValidCall(
        vf.AmortizedPosterior.from_pretrained,
        {"source": saved(), "map_location": "cpu", "local_files_only": True},
        leave=("local_files_only",),
    ),
    # the VAE
    "VAE": lambda: ValidCall(
        vf.VAE,
        {
            "encoder": encoder(),
            "decoder": decoder(),
            "posterior": posterior(),
            "likelihood": BernoulliLikelihood(),
            "prior": vf.DiagonalNormal(torch.zeros(LATENT), torch.ones(LATENT)),
        },
        lambda made: (made.elbo(images()), made.generate(2)),
    ),
    "VAE.encode": lambda: ValidCall(vae().encode, {"x": images()}),
    "VAE.decode": lambda: ValidCall(vae().decode, {"z": latents()}),
    "VAE.prior": lambda: ValidCall(vae().prior, {"like": latents()}),
    "VAE.log_likelihood": lambda: ValidCall(vae().log_likelihood, {"x": images(), "z": latents()}),
    "VAE.log_prior": lambda: ValidCall(vae().log_prior, {"z": latents()}),
    "VAE.elbo": lambda: ValidCall(
        vae().elbo, {"x": images(), "num_particles": 2, "beta": 0.5, "gradient": "reparameterized"}
    ),
    "VAE.importance_weighted_bound": lambda: ValidCall(
        vae().importance_weighted_bound, {"x": images(), "num_particles": 2, "chunk_size": 2, "gradient": "path"}
    ),
    "VAE.renyi_bound": lambda: ValidCall(
        vae().renyi_bound,
        {"x": images(), "alpha": 0.5, "num_particles": 2, "chunk_size": 2, "gradient": "reparameterized"},
    ),
    "VAE.reconstruct": lambda: ValidCall(vae().reconstruct, {"x": images()}),
    "VAE.generate": lambda: ValidCall(vae().generate, {"count": 2}),
    "VAE.model": lambda: _in_store(vae().model, {"x": images(), "beta": 0.5}),
    "VAE.guide": lambda: _in_store(vae().guide, {"x": images(), "beta": 0.5}),
    "FlowPrior": lambda: ValidCall(
        vf.FlowPrior, {"flow": ContinuousNormalizingFlow(MLPDynamics(2, (4,)))}, lambda prior: prior()
    ),
    "FlowPrior.forward": lambda: ValidCall(vf.FlowPrior(ContinuousNormalizingFlow(MLPDynamics(2, (4,))))),
    # guides
    "FlowGuide": lambda: ValidCall(
        vf.FlowGuide,
        {
            "encoder": Encoder(1, CONTEXT),
            "posterior": posterior(),
            "site": "z",
            "plate": "data",
            "packing": "joint",
            "encoder_inputs": lambda x: x,
        },
        in_store,
    ),
    "FlowGuide.forward": lambda: _in_store(lambda x: flow_guide()(x), {"x": torch.rand(BATCH, 1)}),
    "FlowGuide.check": lambda: _in_store(
        lambda model, x: flow_guide().check(model, x), {"model": model, "x": torch.rand(BATCH, 1)}
    ),
    "AmortizedAutoGuide": lambda: ValidCall(
        vf.AmortizedAutoGuide,
        {
            "model": model,
            "encoder": Encoder(1, CONTEXT),
            "flow": "planar",
            "context_dim": CONTEXT,
            "packing": "joint",
            "plate": "data",
            "encoder_inputs": lambda x: x,
            "num_layers": 1,
        },
        in_store,
    ),
    "AmortizedAutoGuide.setup": lambda: _in_store(
        lambda x: vf.AmortizedAutoGuide(model, Encoder(1, 3), "planar").setup(x), {"x": torch.rand(BATCH, 1)}
    ),
    "AmortizedAutoGuide.forward": lambda: _in_store(
        lambda x: vf.AmortizedAutoGuide(model, Encoder(1, 3), "planar")(x), {"x": torch.rand(BATCH, 1)}
    ),
    "LocalSite": lambda: ValidCall(
        vf.LocalSite, {"name": "z", "event_shape": (2,), "support": constraints.positive}, lambda site: site.transform()
    ),
    "LocalSite.transform": lambda: ValidCall(vf.LocalSite("z").transform),
    "estimate_entropy": lambda: ValidCall(
        vf.evaluation.estimate_entropy, {"q": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "estimate_moments": lambda: ValidCall(
        vf.evaluation.estimate_moments, {"q": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "estimate_kl_divergence": lambda: ValidCall(
        vf.evaluation.estimate_kl_divergence, {"q": density(), "p": density(), "num_samples": 4, "chunk_size": 2}
    ),
    "FlowDistribution.entropy": lambda: ValidCall(
        distributions.FlowDistribution(
            distributions.DiagonalNormal(torch.zeros(2), torch.ones(2)), vf.transforms.IdentityTransform(2, Size())
        ).entropy
    ),
    # likelihoods and networks
    "Likelihood": lambda: ValidCall(vf.likelihoods.Likelihood, {"parameters_per_pixel": 1, "event_dim": 3}),
    "Likelihood.check": lambda: ValidCall(BernoulliLikelihood().check, {"x": images()}),
    "Likelihood.log_prob": lambda: ValidCall(BernoulliLikelihood().log_prob, {"parameters": images(), "x": images()}),
    "Likelihood.check_parameters": lambda: ValidCall(BernoulliLikelihood().check_parameters, {"parameters": images()}),
    "BernoulliLikelihood": lambda: ValidCall(BernoulliLikelihood, {"event_dim": 3}, lambda made: made(images()).mean),
    "BernoulliLikelihood.forward": lambda: ValidCall(BernoulliLikelihood(), {"parameters": images()}),
    "CategoricalLikelihood.log_prob": lambda: ValidCall(
        CategoricalLikelihood(levels=2).log_prob, {"parameters": torch.zeros(BATCH, 2, 4, 4), "x": images()}
    ),
    "CategoricalLikelihood": lambda: ValidCall(
        CategoricalLikelihood, {"levels": 2, "event_dim": 3}, lambda made: made(torch.zeros(3, 2, 4, 4)).mean
    ),
    "CategoricalLikelihood.forward": lambda: ValidCall(
        CategoricalLikelihood(2), {"parameters": torch.zeros(3, 2, 4, 4)}
    ),
    "GaussianLikelihood": lambda: ValidCall(
        vf.likelihoods.GaussianLikelihood, {"scale": 1.0, "event_dim": 3}, lambda made: made(images()).mean
    ),
    "GaussianLikelihood.forward": lambda: ValidCall(vf.likelihoods.GaussianLikelihood(), {"parameters": images()}),
    "LaplaceLikelihood": lambda: ValidCall(
        vf.likelihoods.LaplaceLikelihood, {"scale": 1.0, "event_dim": 3}, lambda made: made(images()).mean
    ),
    "LaplaceLikelihood.forward": lambda: ValidCall(vf.likelihoods.LaplaceLikelihood(), {"parameters": images()}),
    "StudentTLikelihood": lambda: ValidCall(
        vf.likelihoods.StudentTLikelihood,
        {"degrees_of_freedom": 3.0, "scale": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "StudentTLikelihood.forward": lambda: ValidCall(vf.likelihoods.StudentTLikelihood(), {"parameters": images()}),
    "ContinuousBernoulliLikelihood": lambda: ValidCall(
        vf.likelihoods.ContinuousBernoulliLikelihood, {"event_dim": 3}, lambda made: made(images()).mean
    ),
    "ContinuousBernoulliLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.ContinuousBernoulliLikelihood(), {"parameters": images()}
    ),
    "DiscretizedLogisticLikelihood": lambda: ValidCall(
        vf.likelihoods.DiscretizedLogisticLikelihood,
        {"levels": 4, "scale": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "DiscretizedLogisticLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.DiscretizedLogisticLikelihood(), {"parameters": torch.rand(4, 2, 4, 4)}
    ),
    "PoissonLikelihood": lambda: ValidCall(
        vf.likelihoods.PoissonLikelihood, {"event_dim": 3}, lambda made: made(images()).mean
    ),
    "PoissonLikelihood.forward": lambda: ValidCall(vf.likelihoods.PoissonLikelihood(), {"parameters": images()}),
    "NegativeBinomialLikelihood": lambda: ValidCall(
        vf.likelihoods.NegativeBinomialLikelihood,
        {"concentration": 1.0, "event_dim": 3},
        lambda made: made(images()).mean,
    ),
    "NegativeBinomialLikelihood.forward": lambda: ValidCall(
        vf.likelihoods.NegativeBinomialLikelihood(), {"parameters": images()}
    ),
    "Likelihood.mean": lambda: ValidCall(BernoulliLikelihood().mean, {"parameters": images()}),
    "Likelihood.sample": lambda: ValidCall(
        BernoulliLikelihood().sample, {"parameters": images(), "sample_shape": (2,)}
    ),
    "Likelihood.split": lambda: ValidCall(BernoulliLikelihood().split, {"parameters": images()}),
    "Likelihood.log_bin_size": lambda: ValidCall(BernoulliLikelihood().log_bin_size, {"levels": 256}),
    "available_likelihoods": lambda: ValidCall(vf.likelihoods.available_likelihoods),
    "make_likelihood": lambda: ValidCall(vf.likelihoods.make_likelihood, {"name": "gaussian"}),
    "register_likelihood": lambda: ValidCall(
        vf.likelihoods.register_likelihood, {"name": "mine"}, lambda register: register(BernoulliLikelihood)
    ),
    "GreyLevels": lambda: ValidCall(
        GreyLevels,
        {"logits": torch.zeros(2, 1, 3, 4, 4), "event_dim": 3, "validate_args": True},
        lambda made: made.log_prob(made.sample()),
    ),
    "GreyLevels.expand": lambda: ValidCall(
        GreyLevels(torch.zeros(1, 3, 4, 4), 3).expand, {"batch_shape": (2,)}, lambda made: made.sample()
    ),
    "GreyLevels.log_prob": lambda: ValidCall(GreyLevels(torch.zeros(1, 3, 4, 4), 3).log_prob, {"value": images()}),
    "GreyLevels.sample": lambda: ValidCall(GreyLevels(torch.zeros(1, 3, 4, 4), 3).sample, {"sample_shape": (2,)}),
    "ConvEncoder": lambda: ValidCall(
        ConvEncoder, {"event_shape": SHAPE, "context_dim": 2, "num_halvings": 1}, lambda made: made(images())
    ),
    "ConvEncoder.forward": lambda: ValidCall(ConvEncoder(SHAPE, 2), {"x": images()}),
    "ConvDecoder": lambda: ValidCall(
        ConvDecoder,
        {"latent_dim": LATENT, "event_shape": SHAPE, "parameters_per_pixel": 1, "num_halvings": 1},
        lambda made: made(latents()),
    ),
    "ConvDecoder.forward": lambda: ValidCall(ConvDecoder(LATENT, SHAPE), {"z": latents()}),
    "MLPEncoder": lambda: ValidCall(
        MLPEncoder, {"event_shape": SHAPE, "hidden_dims": (4,), "context_dim": 2}, lambda made: made(images())
    ),
    "MLPEncoder.forward": lambda: ValidCall(encoder(), {"x": images()}),
    "MLPDecoder": lambda: ValidCall(
        MLPDecoder,
        {"latent_dim": LATENT, "event_shape": SHAPE, "hidden_dims": (4,), "parameters_per_pixel": 1},
        lambda made: made(latents()),
    ),
    "MLPDecoder.forward": lambda: ValidCall(decoder(), {"z": latents()}),
    "default_networks": lambda: ValidCall(
        vf.networks.default_networks,
        {
            "event_shape": SHAPE,
            "likelihood": BernoulliLikelihood(),
            "latent_dim": LATENT,
            "context_dim": 2,
            "hidden_dims": (4,),
        },
        lambda made: made.decoder(latents()),
    ),
    "count_parameters": lambda: ValidCall(vf.networks.count_parameters, {"module": nn.Linear(2, 3)}),
    "check_parameter_count": lambda: ValidCall(
        vf.networks.check_parameter_count,
        {"module": nn.Linear(2, 3), "max_parameters": 9, "setting": "max_parameters"},
    ),
    "GatedLinear": lambda: ValidCall(
        GatedLinear, {"in_features": 3, "out_features": 2}, lambda made: made(torch.rand(4, 3))
    ),
    "GatedLinear.forward": lambda: ValidCall(GatedLinear(3, 2), {"x": torch.rand(4, 3)}),
    "GatedConv2d": lambda: ValidCall(
        GatedConv2d,
        {"in_channels": 1, "out_channels": 2, "kernel_size": (3, 3), "stride": 1, "padding": 1},
        lambda made: made(images()),
    ),
    "GatedConv2d.forward": lambda: ValidCall(GatedConv2d(1, 2, 3), {"x": images()}),
    "GatedConvTranspose2d": lambda: ValidCall(
        GatedConvTranspose2d,
        {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        lambda made: made(images()),
    ),
    "GatedConvTranspose2d.forward": lambda: ValidCall(GatedConvTranspose2d(1, 2, 3), {"x": images()}),
    # objectives
    "draw": lambda: ValidCall(vf.objectives.draw, {"q": density(), "num_particles": 2, "gradient": "path"}),
    "elbo": lambda: ValidCall(
        vf.objectives.elbo,
        {
            "log_likelihood": conditional,
            "log_prior": conditional,
            "q": density(),
            "num_particles": 2,
            "beta": 0.5,
            "gradient": "path",
        },
    ),
    "importance_weighted_bound": lambda: ValidCall(
        vf.objectives.importance_weighted_bound,
        {"log_joint": conditional, "q": density(), "num_particles": 2, "chunk_size": 1, "gradient": "reparameterized"},
    ),
    "renyi_bound": lambda: ValidCall(
        vf.objectives.renyi_bound,
        {
            "log_joint": conditional,
            "q": density(),
            "alpha": 0.5,
            "num_particles": 2,
            "chunk_size": 1,
            "gradient": "path",
        },
    ),
    "renyi_average": lambda: ValidCall(vf.objectives.renyi_average, {"log_weights": torch.randn(3, 4), "alpha": 0.5}),
    # transforms
    **_methods("FusedTransform", planar),
    **_methods("InverseTransform", lambda: planar().inv),
    **_methods("ChainTransform", lambda: vf.transforms.ChainTransform([planar(), planar()])),
    **_methods("CachedTransform", lambda: vf.transforms.CachedTransform(ExpTransform())),
    **_methods("PlanarTransform", planar),
    **_methods("IdentityTransform", lambda: vf.transforms.IdentityTransform(LATENT, Size())),
    **_methods("ReverseTransform", lambda: vf.transforms.ReverseTransform(LATENT, Size())),
    **_methods("SylvesterTransform", lambda: VALID["SylvesterTransform"]().target(*_sylvester().values())),
    **_methods("InverseAutoregressiveTransform", lambda: small_iaf()(torch.zeros(CONTEXT))),
    "ContinuousTransform.until": lambda: ValidCall(
        ContinuousTransform(lambda t, z: -z, solver=SOLVER).until, {"fraction": 0.5}, applied
    ),
    **_methods("ContinuousTransform", lambda: ContinuousTransform(lambda t, z: -z, solver=SOLVER)),
    "IdentityTransform": lambda: ValidCall(
        vf.transforms.IdentityTransform, {"latent_dim": LATENT, "batch_shape": Size(), "cache_size": 1}, applied
    ),
    "ReverseTransform": lambda: ValidCall(
        vf.transforms.ReverseTransform, {"latent_dim": LATENT, "batch_shape": Size(), "cache_size": 1}, applied
    ),
    "InverseTransform": lambda: ValidCall(vf.transforms.InverseTransform, {"transform": planar()}, applied),
    "ChainTransform": lambda: ValidCall(
        vf.transforms.ChainTransform, {"parts": [planar(), planar()], "cache_size": 1}, applied
    ),
    "CachedTransform": lambda: ValidCall(
        vf.transforms.CachedTransform, {"transform": ExpTransform(), "cache_size": 1}, lambda made: made(latents())
    ),
    "PlanarTransform": lambda: ValidCall(
        vf.transforms.PlanarTransform,
        {"u": torch.rand(LATENT), "w": torch.rand(LATENT), "b": torch.tensor(0.3), "cache_size": 1},
        applied,
    ),
    "SylvesterTransform": lambda: ValidCall(
        vf.transforms.SylvesterTransform, {**_sylvester(), "cache_size": 1}, applied
    ),
    "InverseAutoregressiveTransform": lambda: ValidCall(
        vf.transforms.InverseAutoregressiveTransform,
        {
            "network": lambda z: (torch.zeros_like(z), torch.zeros_like(z)),
            "latent_dim": LATENT,
            "batch_shape": (),
            "forget_bias": 1.0,
            "parameters": (torch.zeros(1),),
            "cache_size": 1,
        },
        applied,
    ),
    "forward_with_score": lambda: ValidCall(
        vf.transforms.forward_with_score, {"transform": planar(), "x": latents(), "score": latents()}
    ),
    "householder_product": lambda: ValidCall(vf.transforms.householder_product, {"vectors": torch.rand(2, LATENT)}),
    "orthonormalize": lambda: ValidCall(vf.transforms.orthonormalize, {"matrix": torch.rand(3, 2)}),
    # the continuous core
    "available_activations": lambda: ValidCall(vf.cnf.available_activations),
    "ODESolver": lambda: ValidCall(
        vf.ODESolver,
        {
            "method": "dopri5",
            "rtol": 1e-3,
            "atol": 1e-3,
            "gradient": "backprop",
            "max_evaluations": 100,
            "options": {"first_step": 0.25},
            "fused": True,
            "fallback": vf.ODESolver(),
        },
        lambda solver: applied(ContinuousTransform(lambda t, z: -z, solver=solver)),
    ),
    "ContinuousTransform": lambda: ValidCall(
        ContinuousTransform,
        {
            "vector_field": lambda t, z, *h: -z,
            "integration_time": 0.5,
            "divergence": "hutchinson",
            "noise": "gaussian",
            "num_probes": 1,
            "solver": SOLVER,
            "regularizers": (KineticEnergy(0.1),),
            "context": torch.rand(BATCH, CONTEXT),
            "parameters": (torch.zeros(1),),
            "on_solve": lambda work: None,
            "cache_size": 1,
        },
        applied,
    ),
    "ContinuousTransform with given probes": lambda: ValidCall(
        ContinuousTransform,
        {"vector_field": lambda t, z: -z, "num_probes": 1, "probes": torch.ones(1, BATCH, LATENT), "solver": SOLVER},
        applied,
    ),
    "ContinuousNormalizingFlow": lambda: ValidCall(
        ContinuousNormalizingFlow,
        {
            "dynamics": [MLPDynamics(LATENT, (4,))],
            "context_dim": CONTEXT,
            "amortization": "low_rank",
            "rank": 1,
            "integration_time": 0.5,
            "train_integration_time": False,
            "end_time_jitter": 0.1,
            "divergence": "hutchinson",
            "eval_divergence": "exact",
            "solver": SOLVER,
            "eval_solver": SOLVER,
            "regularizers": (KineticEnergy(0.1),),
        },
        lambda flow: flow(context()).log_prob(latents()),
    ),
    "ContinuousNormalizingFlow.base": lambda: ValidCall(cnf().base),
    "ContinuousNormalizingFlow.forward": lambda: ValidCall(
        cnf(), {"context": context(), "until": 0.5}, lambda p: p.log_prob(latents())
    ),
    "ContinuousNormalizingFlow.transform": lambda: ValidCall(
        cnf().transform, {"context": context(), "until": 0.5}, lambda t: t(latents())
    ),
    "MLPDynamics": lambda: ValidCall(
        MLPDynamics,
        {"latent_dim": LATENT, "hidden_dims": (4,), "activation": "tanh", "time_conditioning": "concat"},
        lambda made: applied(ContinuousTransform(made.condition(), solver=SOLVER)),
    ),
    "MLPDynamics.condition": lambda: ValidCall(
        MLPDynamics(LATENT, (4,)).condition,
        {"updates": None, "batch_shape": ()},
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "ConditionedMLP": lambda: ValidCall(
        ConditionedMLP,
        {
            "dynamics": MLPDynamics(LATENT, (4,)),
            "updates": [vf.cnf.LayerUpdate(), vf.cnf.LayerUpdate()],
            "batch_shape": Size(),
        },
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "FunctionField": lambda: ValidCall(
        FunctionField,
        {"function": lambda t, z, *h: -z, "parameters": (torch.zeros(1),), "context": torch.rand(BATCH, CONTEXT)},
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "HutchinsonDivergence": lambda: ValidCall(HutchinsonDivergence, {"noise": "gaussian", "num_probes": 1}),
    "BottleneckDivergence": lambda: ValidCall(BottleneckDivergence, {"noise": "gaussian", "num_probes": 1}),
    "ExactDivergence": lambda: ValidCall(vf.cnf.ExactDivergence),
    "BruteForceDivergence": lambda: ValidCall(vf.cnf.BruteForceDivergence),
    "JacobianNorm": lambda: ValidCall(JacobianNorm, {"weight": 0.1, "noise": "rademacher"}, lambda made: made),
    "KineticEnergy": lambda: ValidCall(KineticEnergy, {"weight": 0.1}),
    # data
    "available_data_sets": lambda: ValidCall(vf.data.available_data_sets),
    "available_toys": lambda: ValidCall(vf.data.available_toys),
    "toy_density": lambda: ValidCall(vf.data.toy_density, {"name": "moons"}),
    "ToyDensity": lambda: ValidCall(
        vf.data.ToyDensity,
        {"name": "mine", "draw": lambda count, generator: torch.zeros(count, 2), "formula": conditional},
        lambda toy: toy.sample(3),
    ),
    "ToyDensity.log_density": lambda: ValidCall(vf.data.toy_density("moons").log_density, {"x": latents()}),
    "ToyDensity.sample": lambda: ValidCall(
        vf.data.toy_density("moons").sample, {"count": 3, "generator": torch.Generator()}
    ),
    "Images": lambda: ValidCall(
        vf.data.Images,
        {
            "storage": torch.zeros(3, 16, dtype=torch.uint8),
            "image_shape": SHAPE,
            "packed": False,
            "dynamic_binarization": False,
            "labels": torch.zeros(3, dtype=torch.int64),
        },
        lambda made: (made.batch(), made.take(2), repr(made)),
    ),
    "Images.batch": lambda: ValidCall(
        levels().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "DataSet": lambda: ValidCall(
        vf.data.DataSet,
        {
            "name": "small",
            "train": levels(),
            "validation": levels(),
            "test": levels(),
            "pixels": "grey",
            "description": "a small one",
        },
    ),
    "TensorExamples": lambda: ValidCall(
        vf.data.TensorExamples, {"storage": torch.randn(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    ),
    "TensorExamples.batch": lambda: ValidCall(
        rows().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "TensorExamples.fingerprint": lambda: ValidCall(rows().fingerprint),
    "Examples.batch": lambda: VALID["TensorExamples.batch"](),
    "Examples.batches": lambda: ValidCall(
        rows().batches,
        {"indices": [torch.tensor([0, 1])], "generator": None, "dtype": torch.float64},
        lambda made: list(made),
    ),
    "Examples.fingerprint": lambda: VALID["TensorExamples.fingerprint"](),
    "Examples.select": lambda: ValidCall(rows().select, {"indices": torch.tensor([0, 1])}),
    "Examples.take": lambda: ValidCall(rows().take, {"count": 2}),
    "Examples.to": lambda: ValidCall(rows().to, {"device": "cpu"}),
    "Images.fingerprint": lambda: ValidCall(levels().fingerprint),
    "StreamedExamples": lambda: ValidCall(
        vf.data.StreamedExamples,
        {"source": rows(), "num_workers": 0, "positions": torch.tensor([0, 1]), "device": torch.device("cpu")},
        lambda made: (made.batch(), repr(made)),
    ),
    "StreamedExamples.batch": lambda: ValidCall(
        streamed().batch, {"indices": torch.tensor([0, 1]), "generator": torch.Generator(), "dtype": torch.float32}
    ),
    "StreamedExamples.batches": lambda: ValidCall(
        streamed().batches,
        {"indices": [torch.tensor([0, 1])], "generator": torch.Generator(), "dtype": torch.float64},
        lambda made: list(made),
    ),
    "StreamedExamples.fingerprint": lambda: ValidCall(streamed().fingerprint),
    "StreamedExamples.select": lambda: ValidCall(streamed().select, {"indices": torch.tensor([0, 1])}),
    "StreamedExamples.to": lambda: ValidCall(streamed().to, {"device": "cpu"}),
    "as_examples": lambda: ValidCall(
        vf.data.as_examples, {"data": torch.randn(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    ),
    "as_data_set": lambda: ValidCall(
        vf.data.as_data_set,
        {
            "data": torch.randn(9, 2),
            "validation": 0.2,
            "test": 3,
            "split_seed": 1,
            "labels": torch.zeros(9, dtype=torch.int64),
            "name": "mine",
            "description": "made here",
            "standardize": True,
        },
    ),
    "DataSet.standardized": lambda: ValidCall(data_set().standardized),
    "Standardization": lambda: ValidCall(vf.Standardization, {"event_shape": (3,)}),
    "Standardization.of": lambda: ValidCall(vf.Standardization.of, {"batches": [torch.randn(4, 3)]}),
    "Standardization.forward": lambda: ValidCall(vf.Standardization((3,)).forward, {"x": torch.randn(4, 3)}),
    "Standardization.log_abs_det_jacobian": lambda: ValidCall(vf.Standardization((3,)).log_abs_det_jacobian),
    "Standardization.undone": lambda: ValidCall(
        vf.Standardization((3,)).undone,
        {"distribution": vf.likelihoods.GaussianLikelihood(1.0, event_dim=1)(torch.zeros(2, 3))},
    ),
    "VAE.standardize": lambda: ValidCall(
        vf.VAE(
            nn.Linear(3, 3), nn.Linear(2, 3), posterior(), vf.likelihoods.GaussianLikelihood(event_dim=1)
        ).standardize,
        {"standardization": vf.Standardization(SHAPE)},
    ),
    "from_arrays": lambda: ValidCall(
        vf.data.from_arrays,
        {
            "train": torch.rand(3, *SHAPE),
            "validation": torch.rand(3, *SHAPE),
            "test": torch.rand(3, *SHAPE),
            "image_shape": SHAPE,
            "pixels": "grey",
            "labels": (None, None, None),
            "name": "mine",
            "description": "made here",
        },
    ),
    "load": lambda: ValidCall(
        vf.data.load,
        {"name": "frey-faces", "root": None, "path": None, "pixels": None, "split_seed": None, "download": False},
        leave=("download",),
    ),
    # evaluation, training, testing
    "evaluation.evaluate": lambda: ValidCall(
        vf.evaluation.evaluate,
        {
            "vae": vae(),
            "data": levels(),
            "batch_size": 3,
            "importance_samples": 2,
            "chunk_size": 1,
            "seed": 0,
        },
    ),
    "estimate_likelihood": lambda: ValidCall(
        vf.evaluation.estimate_likelihood,
        {
            "vae": vae(),
            "data": levels(),
            "importance_samples": 4,
            "particles": (2,),
            "batch_size": 3,
            "chunk_size": 6,
            "seed": 0,
            "folder": None,
            "progress": lambda step: None,
        },
    ),
    "importance_weighted_bounds": lambda: ValidCall(
        vf.evaluation.importance_weighted_bounds,
        {"log_joint": conditional, "q": density(), "particles": (2,), "num_samples": 4, "chunk_size": 3},
    ),
    "sample_log_weights": lambda: ValidCall(
        vf.evaluation.sample_log_weights,
        {"log_joint": conditional, "q": density(), "num_samples": 4, "chunk_size": 3},
    ),
    "effective_sample_size": lambda: ValidCall(vf.evaluation.effective_sample_size, {"log_weights": torch.randn(5, 2)}),
    "diagnose_weights": lambda: ValidCall(vf.evaluation.diagnose_weights, {"log_weights": torch.randn(50, 2)}),
    "estimate_information": lambda: ValidCall(
        vf.evaluation.estimate_information,
        {"vae": vae(), "data": levels(), "num_images": 3, "chunk_size": 2, "seed": 0},
    ),
    "active_units": lambda: ValidCall(
        vf.evaluation.active_units,
        {"vae": vae(), "data": levels(), "num_samples": 2, "threshold": 0.01, "batch_size": 3, "seed": 0},
    ),
    "kernel_two_sample_test": lambda: ValidCall(
        vf.evaluation.kernel_two_sample_test,
        {
            "x": latents(),
            "y": latents(),
            "bandwidth": 1.0,
            "num_permutations": 2,
            "generator": torch.Generator().manual_seed(0),
        },
    ),
    "compare_aggregate_posterior": lambda: ValidCall(
        vf.evaluation.compare_aggregate_posterior,
        {"vae": vae(), "data": levels(), "num_draws": 4, "num_permutations": 2, "seed": 0},
    ),
    "inference_gap": lambda: ValidCall(
        vf.evaluation.inference_gap,
        {
            "vae": vae(),
            "x": images(),
            "family": "context",
            "num_steps": 2,
            "num_particles": 2,
            "learning_rate": 0.1,
            "num_samples": 4,
            "chunk_size": 3,
            "seed": 0,
        },
    ),
    "local_context": lambda: ValidCall(
        vf.evaluation.local_context,
        {
            "log_joint": conditional,
            "posterior": posterior(),
            "context": context(),
            "num_steps": 2,
            "num_particles": 2,
            "learning_rate": 0.1,
        },
    ),
    "trace_noise": lambda: ValidCall(
        vf.evaluation.trace_noise, {"vae": vae(), "x": images(), "num_noise_draws": 2, "seed": 0}
    ),
    "round_trip_error": lambda: ValidCall(vf.evaluation.round_trip_error, {"q": density(), "num_samples": 2}),
    "density_integral": lambda: ValidCall(
        vf.evaluation.density_integral, {"q": density(), "num_samples": 20, "chunk_size": 15}
    ),
    "simulation_based_calibration": lambda: ValidCall(
        vf.evaluation.simulation_based_calibration,
        {
            "prior_sample": lambda n: torch.randn(n, 1),
            "simulate": lambda theta: theta,
            "posterior_sample": lambda x, count: torch.randn(count, *x.shape),
            "num_simulations": 20,
            "num_draws": 9,
            "chunk_size": 10,
        },
        lambda result: result.p_values(2),
    ),
    "paired_difference": lambda: ValidCall(
        vf.evaluation.paired_difference,
        {
            "first": torch.randn(2, 5),
            "second": torch.randn(2, 5),
            "confidence": 0.9,
            "num_resamples": 10,
            "seed": 0,
        },
    ),
    "rank_posteriors": lambda: ValidCall(
        vf.evaluation.rank_posteriors,
        {
            "scores": {"a": torch.randn(2, 5), "b": torch.randn(2, 5)},
            "confidence": 0.9,
            "num_resamples": 10,
            "seed": 0,
        },
    ),
    "CalibrationResult.histogram": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).histogram, {"num_bins": 2, "probability": 0.9}
    ),
    "CalibrationResult.ecdf_band": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).ecdf_band, {"probability": 0.9, "num_points": 5}
    ),
    "CalibrationResult.p_values": lambda: ValidCall(
        vf.evaluation.CalibrationResult(torch.randint(10, (20, 1)), 9).p_values, {"num_bins": 2}
    ),
    "TrainingSettings": lambda: ValidCall(
        training.TrainingSettings,
        {
            "max_epochs": 1,
            "batch_size": 3,
            "learning_rate": 1e-3,
            "optimizer_epsilon": 1e-7,
            "warmup_epochs": 0,
            "patience": 1,
            "max_gradient_norm": 1.0,
            "num_particles": 1,
            "gradient": "path",
            "evaluation_batch_size": 3,
            "seed": 0,
        },
        lambda settings: settings.beta(1),
    ),
    "TrainingSettings.beta": lambda: ValidCall(training.TrainingSettings().beta, {"epoch": 1}),
    "ComputeSettings": lambda: ValidCall(
        training.ComputeSettings, {"accelerator": "cpu", "devices": 1, "precision": "32-true", "strategy": "auto"}
    ),
    "train": lambda: ValidCall(
        training.train,
        {
            "vae": vae(),
            "data": data_set(),
            "settings": training.TrainingSettings(max_epochs=1, batch_size=6),
            "folder": None,
            "compute": training.ComputeSettings("cpu"),
            "resume": False,
            "progress": False,
        },
    ),
    "TrainingResult.from_history": lambda: ValidCall(
        training.TrainingResult.from_history, {"history": _history(), "settings": training.TrainingSettings()}
    ),
    "FlowContract": lambda: ValidCall(
        testing.FlowContract,
        {
            "build": flows.IdentityFlow,
            "latent_dim": 2,
            "context_dim": 3,
            "tolerance": 1e-8,
            "latent_scale": 1.0,
            "seed": 0,
        },
        lambda contract: contract.flow(),
    ),
    "FlowContract.flow": lambda: ValidCall(testing.FlowContract(flows.IdentityFlow).flow, {"latent_dim": 2}),
    "FlowContract.fresh": lambda: ValidCall(testing.FlowContract(flows.IdentityFlow).fresh, {"latent_dim": 2}),
    "FlowContract.context": lambda: ValidCall(
        testing.FlowContract(flows.IdentityFlow).context, {"dtype": torch.float64}
    ),
    "FlowContract.latents": lambda: ValidCall(
        testing.FlowContract(flows.IdentityFlow).latents, {"dtype": torch.float64}
    ),
    "check_flow": lambda: ValidCall(
        testing.check_flow, {"build": flows.IdentityFlow, "latent_dim": 2, "tolerance": 1e-8}
    ),
    # reporting
    "Run": lambda: ValidCall(
        reporting.Run,
        {
            "data": "data",
            "posterior": "planar",
            "seed": 0,
            "status": "finished",
            "unit": "nats",
            "negative_elbo": 1.0,
            "curve": (2.0, 1.0),
        },
        lambda made: (
            reporting.results_table(reporting.summarize([made])["data"]).to_markdown() if made.data == "data" else None
        ),
    ),
    "Estimate.of": lambda: ValidCall(reporting.Estimate.of, {"values": [1.0, 2.0]}),
    "Estimate.text": lambda: ValidCall(reporting.Estimate.of([1.0, 2.0]).text, {"decimals": 1}),
    "summarize": lambda: ValidCall(reporting.summarize, {"runs": [run(), run(1)]}),
    "results_table": lambda: ValidCall(
        reporting.results_table,
        {"summaries": summaries(), "reference": reporting.Reference("a paper", {}), "notes": ("a note",)},
        lambda made: made.to_markdown(),
    ),
    "summaries_to_csv": lambda: ValidCall(
        reporting.summaries_to_csv, {"summaries": summaries(), "references": {"data": reporting.Reference("p", {})}}
    ),
    "Table.to_markdown": lambda: ValidCall(table().to_markdown),
    "Table.to_rich": lambda: ValidCall(table().to_rich),
    "posterior_grid": lambda: ValidCall(
        vf.evaluation.posterior_grid, {"vae": vae(), "x": images(), "num_cells": 8, "seed": 0}
    ),
    "flow_paths": lambda: ValidCall(vf.evaluation.flow_paths, {"q": density(), "num_samples": 3, "num_steps": 2}),
    "plot_curves": lambda: ValidCall(reporting.plot_curves, {"runs": [run()], **SHEET}),
    "plot_elbo_by_time": lambda: ValidCall(reporting.plot_elbo_by_time, {"runs": [run()], **SHEET}),
    "plot_evaluations_by_epoch": lambda: ValidCall(reporting.plot_evaluations_by_epoch, {"runs": [run()], **SHEET}),
    "plot_costs": lambda: ValidCall(reporting.plot_costs, {"runs": [run()], **SHEET}),
    "plot_results": lambda: ValidCall(reporting.plot_results, {"runs": [run()], "summaries": summaries(), **SHEET}),
    "image_grid": lambda: ValidCall(reporting.image_grid, {"rows": {"row": torch.rand(3, 1, 4, 4)}, **SHEET}),
    "plot_reconstructions": lambda: ValidCall(
        reporting.plot_reconstructions, {"models": {"planar": vae()}, "x": images(), "seed": 0, **SHEET}
    ),
    "plot_samples": lambda: ValidCall(reporting.plot_samples, {"models": vae(), "count": 3, "seed": 0, **SHEET}),
    "plot_traversals": lambda: ValidCall(
        reporting.plot_traversals,
        {"vae": vae(), "x": images()[:1], "latents": [0], "num_latents": 1, "num_steps": 3, "seed": 0, **SHEET},
    ),
    "plot_interpolations": lambda: ValidCall(
        reporting.plot_interpolations,
        {
            "vae": vae(),
            "start": images(),
            "end": images(),
            "num_steps": 3,
            "path": "spherical",
            "seed": 0,
            **SHEET,
        },
    ),
    "plot_marginals": lambda: ValidCall(
        reporting.plot_marginals,
        {"vae": table_vae(), "data": torch.rand(6, 2), "names": ["a", "b"], "count": 5, "seed": 0, **SHEET},
    ),
    "plot_posteriors": lambda: ValidCall(
        reporting.plot_posteriors, {"models": {"planar": vae()}, "x": images(), "num_cells": 8, "seed": 0, **SHEET}
    ),
    "draw_aggregate": lambda: ValidCall(
        reporting.draw_aggregate, {"vae": vae(), "data": levels(), "count": 5, "projection": "active", "seed": 0}
    ),
    "plot_aggregate_posterior": lambda: ValidCall(
        reporting.plot_aggregate_posterior,
        {"vae": vae(), "data": levels(), "count": 5, "projection": "pca", "seed": 0, **SHEET},
    ),
    "plot_rank_histograms": lambda: ValidCall(
        reporting.plot_rank_histograms,
        {"result": ranks(), "num_bins": 5, "probability": 0.9, "names": ["a"], **SHEET},
    ),
    "plot_calibration_ecdf": lambda: ValidCall(
        reporting.plot_calibration_ecdf, {"result": ranks(), "probability": 0.9, "names": ["a"], **SHEET}
    ),
    "plot_pareto_k": lambda: ValidCall(
        reporting.plot_pareto_k,
        {"diagnostics": {"planar": vf.evaluation.WeightDiagnostics(torch.ones(3), torch.rand(3), 100)}, **SHEET},
    ),
    "plot_inference_gaps": lambda: ValidCall(
        reporting.plot_inference_gaps,
        {"gaps": {"planar": vf.evaluation.InferenceGap(*torch.rand(5, 3), torch.rand(3, 2))}, **SHEET},
    ),
    "save_figure": lambda: ValidCall(
        reporting.save_figure, {"figure": reporting.plot_curves([run()]), "path": folder() / "figure.svg"}
    ),
}


def _sylvester() -> dict[str, Tensor]:
    return {
        "Q": torch.eye(LATENT),
        "R1": 0.1 * torch.eye(LATENT),
        "R2": 0.1 * torch.eye(LATENT),
        "b": torch.zeros(LATENT),
    }


def small_iaf() -> flows.IAFFlow:
    return flows.IAFFlow(LATENT, CONTEXT, num_layers=1, hidden_dim=4)


def _in_store(function: Callable[..., Any], arguments: dict[str, Any]) -> ValidCall:
    def called(**given: Any) -> object:
        with pyro.get_param_store().scope():
            return function(**given)

    return ValidCall(called, arguments)


def _history() -> tuple[training.EpochRecord, ...]:
    return (training.EpochRecord(1, 1.0, 2.0, 1.0, 2.0, None, None, 10.0, 0.1),)
