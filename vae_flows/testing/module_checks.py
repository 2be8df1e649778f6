"""Checks of what surrounds the map: errors, dtypes, copies, the cache, and life in Pyro."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import ConditionalTransformedDistribution, Independent, Normal
from torch import Size

from vae_flows.distributions import FlowDistribution
from vae_flows.flows.base import AmortizedFlow
from vae_flows.testing.contract import (
    BATCH,
    PERTURBATION,
    FlowContract,
    contract_check,
    expect,
    expect_close,
    expect_error,
    expect_shape,
)

SINGLE_TOLERANCE = 1e-3  # rounding in float32, amplified by the condition of a flow


@contract_check
def wrong_inputs_are_errors(contract: FlowContract) -> None:
    """Wrong shapes, integers and sizes are an `InvalidInputError`."""
    flow, D, C = contract.flow(), contract.latent_dim, contract.context_dim
    transform = flow(contract.context(BATCH))
    wrong: dict[str, Callable[[], object]] = {
        "latents of another batch": lambda: transform(contract.latents(BATCH + 1)),
        "inverse of latents of another batch": lambda: transform.inv(contract.latents(BATCH, 1, 2)),
        "latents of another size": lambda: transform(torch.zeros(BATCH, D + 1, dtype=torch.float64)),
        "integer latents": lambda: transform(torch.zeros(BATCH, D, dtype=torch.int64)),
        "context of another size": lambda: flow(torch.zeros(BATCH, C + 1, dtype=torch.float64)),
        "integer context": lambda: flow(torch.zeros(BATCH, C, dtype=torch.int64)),
        "latent_dim=0": lambda: contract.build(0, C),
        "context_dim=0": lambda: contract.build(D, 0),
    }
    for subject, call in wrong.items():
        expect_error(subject, call)


@contract_check
def dtype_is_kept(contract: FlowContract) -> None:
    """Results have the dtype of the inputs, in float32 and float64, also before training."""
    for dtype, tolerance in ((torch.float32, SINGLE_TOLERANCE), (torch.float64, 0.0)):
        z = contract.latents(7, BATCH, dtype=dtype)
        transform = contract.fresh().to(dtype)(contract.context(BATCH, dtype=dtype))
        y, log_det = transform.forward_with_log_det(z)
        x, inverse_log_det = transform.inverse_with_log_det(y)
        found = {tensor.dtype for tensor in (y, log_det, x, inverse_log_det)}
        expect(found == {dtype}, "dtype of the results", dtype, found)
        expect_close(f"round trip in {dtype}", x, z, max(contract.tolerance, tolerance))


@contract_check
def one_latent_dimension_works(contract: FlowContract) -> None:
    """A flow of the line is one as well."""
    transform = contract.flow(latent_dim=1)(contract.context(BATCH)).with_cache(0)
    z = torch.randn(7, BATCH, 1, dtype=torch.float64)
    expect_close("round trip", transform.inv(transform(z)), z, contract.tolerance)


@contract_check
def state_survives_a_file(contract: FlowContract) -> None:
    """Another flow that loads the state gives the same values."""
    flow, file = contract.flow(), io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    other = contract.fresh().double().eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    _expect_same_values("flow with loaded state", contract, flow, other)


@contract_check
def copies_give_the_same_values(contract: FlowContract) -> None:
    """`copy.deepcopy` and `pickle` give another flow with the same values, also after an evaluation."""
    flow = contract.flow()
    flow(contract.context(BATCH))(contract.latents(BATCH))
    copies = {"deepcopy": copy.deepcopy(flow), "pickle": pickle.loads(pickle.dumps(flow))}
    for name, other in copies.items():
        expect(other is not flow, name, "another object", "the same")
        _expect_same_values(name, contract, flow, other)


def _expect_same_values(subject: str, contract: FlowContract, flow: AmortizedFlow, other: AmortizedFlow) -> None:
    context, z = contract.context(BATCH), contract.latents(BATCH)
    expect_close(subject, other(context)(z), flow(context)(z), 0.0)


@contract_check
def latest_evaluation_is_cached(contract: FlowContract) -> None:
    """Scoring what was just drawn computes nothing: the very tensors come back."""
    transform, z = contract.flow()(contract.context(BATCH)), contract.latents(BATCH)
    y = transform(z)
    log_det = transform.log_abs_det_jacobian(z, y)
    expect(transform.inv(y) is z, "inverse of a draw", "the tensor it was drawn from", "another")
    expect(transform(z) is y, "second draw from one tensor", "the tensor of the first", "another")
    expect(transform.log_abs_det_jacobian(z, y) is log_det, "second log-determinant", "the first", "another")
    y = transform(contract.latents(BATCH)).detach().clone()
    z = transform.inv(y)
    expect(transform(z) is y, "forward of an inverse", "the tensor that was inverted", "another")


@contract_check
def cache_can_be_switched_off(contract: FlowContract) -> None:
    """`with_cache(0)` computes the same anew, and one transform gives the same value twice, in training mode too."""
    flow, context, z = contract.flow(), contract.context(BATCH), contract.latents(BATCH)
    for mode in (True, False):
        transform = flow.train(mode)(context)
        y, log_det = transform(z), transform.log_abs_det_jacobian(z, transform(z))
        bare = transform.with_cache(0)
        again = bare(z)
        expect(bare.inv(again) is not z, "inverse without a cache", "another tensor", "the cached one")
        expect_close("value without a cache", again, y, contract.tolerance)
        expect_close("inverse without a cache", bare.inv(again), z, contract.tolerance)
        expect_close("log-determinant", bare.log_abs_det_jacobian(z, again), log_det, contract.tolerance)


@contract_check
def stale_evaluations_are_not_returned(contract: FlowContract) -> None:
    """After a change in place, of parameters as by an optimiser or of latents, the cache is not used."""
    for changed in ("parameters", "latents"):
        flow, z = contract.flow(), contract.latents(BATCH)
        transform = flow(contract.context(BATCH))
        with torch.no_grad():
            before = transform(z).clone()
            for tensor in flow.parameters() if changed == "parameters" else [z]:
                tensor.add_(PERTURBATION)
            again, bare = transform(z), transform.with_cache(0)
            expect_close(f"value after changed {changed}", again, bare(z), 0.0)
            there = bare.forward_with_log_det(z)[1]
            expect_close("log-determinant", transform.log_abs_det_jacobian(z, again), there, 0.0)
        moved = changed == "parameters" or not torch.equal(again, before)
        expect(moved, "value of changed latents", "a new one", "the old one")


@contract_check
def densities_follow_the_change_of_variables(contract: FlowContract) -> None:
    """Pyro's distributions with the flow score draws, and other values, by the change of variables; they expand."""
    flow, context = contract.flow(), contract.context(BATCH)
    base = Independent(Normal(contract.latents(BATCH), 0.1 * contract.latents(BATCH).exp()), 1)
    conditional = ConditionalTransformedDistribution(base, [flow]).condition(context)
    direct = FlowDistribution(base, [flow(context)])
    for q in (conditional, direct, direct.expand(Size([2, BATCH]))):
        y = q.rsample(Size([7]))
        expect_shape("draws", y, (7, *q.batch_shape, contract.latent_dim))
        for values in (y, y + PERTURBATION):
            log_q = q.log_prob(values)
            x, log_det = flow(context).inverse_with_log_det(values)
            expect_close("log-density", log_q, base.log_prob(x) - log_det, contract.tolerance)


@contract_check
def works_in_plates(contract: FlowContract) -> None:
    """A Pyro sample site with plates left and right is drawn and scored by example."""
    flow, context = contract.flow(), contract.context(BATCH)
    base = Independent(Normal(torch.zeros_like(contract.latents(BATCH)), 1.0), 1)

    def model() -> None:
        with pyro.plate("particles", 3, dim=-2), pyro.plate("data", BATCH, dim=-1):
            pyro.sample("z", FlowDistribution(base, [flow(context)]))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    site: Any = trace.nodes["z"]
    expect_shape("draws", site["value"], (3, BATCH, contract.latent_dim))
    x, log_det = flow(context).inverse_with_log_det(site["value"])
    expect_close("log-density", site["log_prob"], base.log_prob(x) - log_det, contract.tolerance)


@contract_check
def repr_names_flow_and_sizes(contract: FlowContract) -> None:
    """`repr` begins with the class and tells both sizes."""
    flow = contract.fresh()
    sizes = f"latent_dim={contract.latent_dim}, context_dim={contract.context_dim}"
    told = repr(flow)
    expect(told.startswith(f"{type(flow).__name__}(") and sizes in told, "repr", sizes, told)
