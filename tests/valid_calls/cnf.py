"""One valid call of every public callable of the continuous core."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size

import vae_flows as vf
from tests.valid_calls.parts import (
    BATCH,
    CONTEXT,
    LATENT,
    SOLVER,
    applied,
    context,
    latents,
    methods,
)
from tests.wrong_values import ValidCall
from vae_flows.cnf import (
    BottleneckDivergence,
    ConditionedMLP,
    ContinuousNormalizingFlow,
    ContinuousTransform,
    ConvolutionalDynamics,
    FunctionField,
    HutchinsonDivergence,
    ImageFlow,
    JacobianNorm,
    KineticEnergy,
    MLPDynamics,
    QuantizedDensity,
    UniformDequantization,
    VariationalDequantization,
)

__all__ = ["CALLS"]

IMAGE = (1, 4, 4)


def cnf() -> ContinuousNormalizingFlow:
    return ContinuousNormalizingFlow(MLPDynamics(LATENT, (4,)), context_dim=CONTEXT, solver=SOLVER)


def image_flow() -> ImageFlow:
    return ImageFlow(IMAGE, hidden_channels=(2,), solver=SOLVER)


def dequantized(made: torch.nn.Module) -> object:
    return made(torch.ones(BATCH, *IMAGE))


CALLS: dict[str, Callable[[], ValidCall]] = {
    "cnf.ContinuousTransform.until": lambda: ValidCall(
        ContinuousTransform(lambda t, z: -z, solver=SOLVER).until, {"fraction": 0.5}, applied
    ),
    **methods("cnf.ContinuousTransform", lambda: ContinuousTransform(lambda t, z: -z, solver=SOLVER)),
    "cnf.available_activations": lambda: ValidCall(vf.cnf.available_activations),
    "ode.ODESolver.in_units_of": lambda: ValidCall(
        vf.ODESolver("rk4", options={"step_size": 0.5}).in_units_of, {"length": 2.0}
    ),
    "ode.ODESolver": lambda: ValidCall(
        vf.ODESolver,
        {
            "method": "dopri5",
            "rtol": 1e-3,
            "atol": 1e-3,
            "gradient": "backprop",
            "max_evaluations": 100,
            "options": {"first_step": 0.25},
            "fused": True,
            "compile": False,
            "fallback": vf.ODESolver(),
        },
        lambda solver: applied(ContinuousTransform(lambda t, z: -z, solver=solver)),
    ),
    "cnf.ContinuousTransform": lambda: ValidCall(
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
    "cnf.ContinuousTransform with given probes": lambda: ValidCall(
        ContinuousTransform,
        {"vector_field": lambda t, z: -z, "num_probes": 1, "probes": torch.ones(1, BATCH, LATENT), "solver": SOLVER},
        applied,
    ),
    "cnf.ContinuousNormalizingFlow": lambda: ValidCall(
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
    "cnf.ContinuousNormalizingFlow.base": lambda: ValidCall(cnf().base),
    "cnf.ContinuousNormalizingFlow.forward": lambda: ValidCall(
        cnf(), {"context": context(), "until": 0.5}, lambda p: p.log_prob(latents())
    ),
    "cnf.ContinuousNormalizingFlow.transform": lambda: ValidCall(
        cnf().transform, {"context": context(), "until": 0.5}, lambda t: t(latents())
    ),
    "cnf.MLPDynamics": lambda: ValidCall(
        MLPDynamics,
        {"latent_dim": LATENT, "hidden_dims": (4,), "activation": "tanh", "time_conditioning": "concat"},
        lambda made: applied(ContinuousTransform(made.condition(), solver=SOLVER)),
    ),
    "cnf.MLPDynamics.condition": lambda: ValidCall(
        MLPDynamics(LATENT, (4,)).condition,
        {"updates": None, "batch_shape": ()},
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "cnf.ConvolutionalDynamics": lambda: ValidCall(
        ConvolutionalDynamics,
        {"image_shape": IMAGE, "hidden_channels": (2,), "strides": (1, 1), "activation": "tanh"},
        lambda made: ContinuousTransform(made.condition(), solver=SOLVER)(torch.rand(BATCH, 16)),
    ),
    "cnf.ConvolutionalDynamics.condition": lambda: ValidCall(ConvolutionalDynamics(IMAGE, (2,)).condition),
    "cnf.ImageFlow": lambda: ValidCall(
        ImageFlow,
        {
            "image_shape": IMAGE,
            "num_scales": 2,
            "flows_per_scale": 1,
            "hidden_channels": (2,),
            "strides": (1, 1),
            "activation": "tanh",
            "logit_margin": 0.05,
            "integration_time": 0.5,
            "train_integration_time": False,
            "end_time_jitter": 0.1,
            "divergence": "hutchinson",
            "eval_divergence": "hutchinson",
            "solver": SOLVER,
            "eval_solver": SOLVER,
            "regularizers": (KineticEnergy(0.1),),
        },
        lambda flow: flow().log_prob(torch.rand(BATCH, *IMAGE)),
    ),
    "cnf.ImageFlow.base": lambda: ValidCall(image_flow().base),
    "cnf.ImageFlow.forward": lambda: ValidCall(image_flow()),
    "cnf.ImageFlow.transform": lambda: ValidCall(image_flow().transform),
    "cnf.UniformDequantization": lambda: ValidCall(UniformDequantization, {"levels": 2}, dequantized),
    "cnf.VariationalDequantization": lambda: ValidCall(
        VariationalDequantization, {"image_shape": IMAGE, "levels": 2, "hidden_channels": 2}, dequantized
    ),
    "cnf.Dequantization.forward": lambda: ValidCall(UniformDequantization(2), {"images": torch.ones(BATCH, *IMAGE)}),
    "cnf.Dequantization.quantize": lambda: ValidCall(UniformDequantization(2).quantize, {"y": torch.rand(BATCH)}),
    "cnf.QuantizedDensity": lambda: ValidCall(
        QuantizedDensity, {"flow": image_flow(), "dequantization": UniformDequantization(2)}, dequantized
    ),
    "cnf.QuantizedDensity.forward": lambda: ValidCall(
        QuantizedDensity(image_flow(), UniformDequantization(2)), {"images": torch.ones(BATCH, *IMAGE)}
    ),
    "cnf.QuantizedDensity.sample": lambda: ValidCall(QuantizedDensity(image_flow()).sample, {"count": 2}),
    "cnf.ConditionedMLP": lambda: ValidCall(
        ConditionedMLP,
        {
            "dynamics": MLPDynamics(LATENT, (4,)),
            "updates": [vf.cnf.LayerUpdate(), vf.cnf.LayerUpdate()],
            "batch_shape": Size(),
        },
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "cnf.FunctionField": lambda: ValidCall(
        FunctionField,
        {"function": lambda t, z, *h: -z, "parameters": (torch.zeros(1),), "context": torch.rand(BATCH, CONTEXT)},
        lambda made: applied(ContinuousTransform(made, solver=SOLVER)),
    ),
    "cnf.HutchinsonDivergence": lambda: ValidCall(HutchinsonDivergence, {"noise": "gaussian", "num_probes": 1}),
    "cnf.BottleneckDivergence": lambda: ValidCall(BottleneckDivergence, {"noise": "gaussian", "num_probes": 1}),
    "cnf.ExactDivergence": lambda: ValidCall(vf.cnf.ExactDivergence),
    "cnf.BruteForceDivergence": lambda: ValidCall(vf.cnf.BruteForceDivergence),
    "cnf.JacobianNorm": lambda: ValidCall(JacobianNorm, {"weight": 0.1, "noise": "rademacher"}, lambda made: made),
    "cnf.KineticEnergy": lambda: ValidCall(KineticEnergy, {"weight": 0.1}),
}
