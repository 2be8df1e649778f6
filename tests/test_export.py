"""Exported programs compute what the model does, for any number of examples, and what cannot be exported is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import AffineTransform, Independent, Normal, TanhTransform, TransformedDistribution

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.export import _difference, _solve_triangular, to_onnx, to_programs
from vae_flows.networks import MLPDecoder, MLPEncoder, default_networks

FIXED = vf.ODESolver(method="rk4", options={"step_size": 0.25})
ROUNDING = 1e-5  # of float32, through some hundred operations in another order
SHAPE = (1, 3, 4)
RECORDED_BY_ALL = ("none", "planar")
SINCE = pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="PyTorch 2.6 cannot record it")
POSTERIORS: dict[str, dict[str, Any]] = {
    "none": {},
    "planar": {},
    "iaf": {},
    "sylvester-orthogonal": {},
    "sylvester-householder": {},
    "sylvester-triangular": {},
    "ffjord": {"hidden_dims": (6,), "amortization": "bias", "eval_solver": FIXED},
}


def make(flow: Any = "planar", likelihood: Any = None, shape: tuple[int, ...] = SHAPE, **options: Any) -> vf.VAE:
    reseed(0)
    likelihood = likelihood or vf.likelihoods.BernoulliLikelihood()
    posterior = vf.AmortizedPosterior(4, 6, flow=flow, **options)
    encoder = MLPEncoder(shape, (5,), 6)
    return vf.VAE(encoder, MLPDecoder(4, shape, (5,), likelihood.parameters_per_pixel), posterior, likelihood)


def expected(vae: vf.VAE, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return z and log q by the library's own distributions."""
    q = vae.eval().encode(x)
    z = q.base_dist.loc + q.base_dist.scale * noise
    for transform in q.transforms:
        z = transform(z)
    return z, q.log_prob(z)


@pytest.mark.parametrize(
    "name", [name if name in RECORDED_BY_ALL else pytest.param(name, marks=SINCE) for name in POSTERIORS]
)
def test_programs_compute_what_the_model_does_for_other_numbers_of_examples(name: str) -> None:
    vae = make(name, **POSTERIORS[name])
    programs = to_programs(vae, torch.rand(2, *SHAPE))
    with torch.no_grad():
        for count in (1, 2, 5):
            x, noise = torch.rand(count, *SHAPE), torch.randn(count, 4)
            z, log_q = programs.encode.module()(x, noise)
            wanted = expected(vae, x, noise)
            torch.testing.assert_close((z, log_q), wanted, rtol=ROUNDING, atol=ROUNDING)
            mean, parameters = programs.decode.module()(z)
            torch.testing.assert_close(mean, vae.decode(z).mean, rtol=ROUNDING, atol=ROUNDING)
            torch.testing.assert_close(parameters, vae.decoder(z), rtol=ROUNDING, atol=ROUNDING)


# A conversion takes seconds: the fast tests have one posterior, whose operators all others need too.
@pytest.mark.parametrize(
    "name", [name if name == "planar" else pytest.param(name, marks=pytest.mark.slow) for name in POSTERIORS]
)
def test_onnx_runtime_computes_what_the_model_does(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    vae = make(name, **POSTERIORS[name])
    files = to_onnx(vae, tmp_path, torch.rand(2, *SHAPE))
    assert 0 <= files.largest_difference < ROUNDING
    x, noise = torch.rand(5, *SHAPE), torch.randn(5, 4)
    session = runtime.InferenceSession(str(files.encode))
    z, log_q = session.run(["z", "log_q"], {"x": x.numpy(), "noise": noise.numpy()})
    with torch.no_grad():
        wanted = expected(vae, x, noise)
        torch.testing.assert_close((torch.tensor(z), torch.tensor(log_q)), wanted, rtol=ROUNDING, atol=ROUNDING)
        (mean,) = runtime.InferenceSession(str(files.decode)).run(["mean"], {"z": z})
        torch.testing.assert_close(torch.tensor(mean), vae.decode(wanted[0]).mean, rtol=ROUNDING, atol=ROUNDING)


def test_standardisation_and_convolutions_are_part_of_the_programs() -> None:
    reseed(0)
    x = 100 + 5 * torch.randn(8, 3, 8, 6)
    likelihood = vf.likelihoods.GaussianLikelihood(scale="emitted")
    encoder, decoder = default_networks((3, 8, 6), likelihood, 4, 6)
    standardization = vf.Standardization.of([x])
    posterior = vf.AmortizedPosterior(4, 6, flow="none")
    vae = vf.VAE(encoder, decoder, posterior, likelihood, standardization=standardization).eval()
    programs = to_programs(vae, x)
    noise = torch.randn(3, 4)
    with torch.no_grad():
        z, log_q = programs.encode.module()(x[:3], noise)
        torch.testing.assert_close((z, log_q), expected(vae, x[:3], noise), rtol=ROUNDING, atol=ROUNDING)
        mean, _ = programs.decode.module()(z)
        torch.testing.assert_close(mean, vae.decode(z).mean, rtol=ROUNDING, atol=1e-3)
    assert mean.mean() > 50  # of the examples themselves


def test_a_posterior_of_ones_own_is_exported() -> None:
    class Own(nn.Module):
        latent_dim = 4

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 8)

        def forward(self, context: torch.Tensor) -> Independent:
            loc, scale = self.linear(context).chunk(2, -1)
            return Independent(Normal(loc, scale.exp()), 1)

    reseed(0)
    likelihood = vf.likelihoods.BernoulliLikelihood()
    vae = vf.VAE(MLPEncoder(SHAPE, (5,), 6), MLPDecoder(4, SHAPE, (5,)), Own(), likelihood)
    programs = to_programs(vae, torch.rand(2, *SHAPE))
    x = torch.rand(3, *SHAPE)
    with torch.no_grad():
        z, log_q = programs.encode.module()(x, torch.zeros(3, 4))
        q = vae.eval().encode(x)
        torch.testing.assert_close((z, log_q), (q.mean, q.log_prob(q.mean)), rtol=ROUNDING, atol=ROUNDING)


def test_transforms_of_each_latent_alone_are_summed_over_them() -> None:
    class Own(nn.Module):
        def forward(self, context: torch.Tensor) -> TransformedDistribution:
            normal = Normal(context[..., :4], 0.5 + context[..., 1:5].sigmoid())
            return TransformedDistribution(Independent(normal, 1), [TanhTransform(), AffineTransform(1.0, 3.0)])

    reseed(0)
    parts = MLPEncoder(SHAPE, (5,), 6), MLPDecoder(4, SHAPE, (5,)), Own(), vf.likelihoods.BernoulliLikelihood()
    vae = vf.VAE(*parts, latent_dim=4)
    x, noise = torch.rand(4, *SHAPE), torch.randn(4, 4)  # as many examples as latents, where a sum left out is no error
    programs = to_programs(vae, x)
    with torch.no_grad():
        z, log_q = programs.encode.module()(x, noise)
        q = vae.eval().encode(x)
        torch.testing.assert_close(log_q, q.log_prob(z), rtol=1e-3, atol=1e-3)  # by the inverse of a tanh in float32


@SINCE
def test_the_solver_that_is_given_replaces_steps_chosen_by_the_data_and_the_model_stays_as_it_was() -> None:
    vae = make("ffjord", hidden_dims=(6,), amortization="bias").train()
    with pytest.raises(vf.InvalidInputError, match=r"solver of an exported flow: expected fixed steps.*dopri5.*rk4"):
        to_programs(vae, torch.rand(2, *SHAPE))
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    programs = to_programs(vae, torch.rand(2, *SHAPE), solver=FIXED)
    assert vae.training
    assert vae.posterior.flow.cnf.eval_solver.method == "dopri5"
    assert all(parameter.requires_grad for parameter in vae.parameters())
    torch.testing.assert_close(dict(vae.state_dict()), before, rtol=0, atol=0)
    x, noise = torch.rand(3, *SHAPE), torch.randn(3, 4)
    with torch.no_grad():
        found = programs.encode.module()(x, noise)
        torch.testing.assert_close(found, expected(vae, x, noise), rtol=1e-3, atol=1e-3)  # two solves' tolerance


@pytest.mark.parametrize(
    ("options", "examples", "message"),
    [
        ({"eval_divergence": "hutchinson"}, torch.rand(2, *SHAPE), "eval_divergence of an exported flow"),
        ({}, torch.rand(1, *SHAPE), "two examples or more"),
        ({}, torch.rand(2, 5), "MLPEncoder"),
        ({}, torch.full((2, *SHAPE), 3.0), "BernoulliLikelihood values"),
        ({}, [1, 2], "to_programs examples"),
    ],
)
def test_what_cannot_be_exported_is_refused(options: dict[str, Any], examples: Any, message: str) -> None:
    vae = make("ffjord", hidden_dims=(6,), amortization="bias", eval_solver=FIXED, **options)
    with pytest.raises(vf.VAEFlowsError, match=message):
        to_programs(vae, examples)


def test_what_this_release_of_pytorch_cannot_record_is_told() -> None:
    class Branching(nn.Module):
        def forward(self, context: torch.Tensor) -> Independent:
            loc = context[..., :4]
            return Independent(Normal(loc, 1.0 if bool(loc.sum() > 0) else 2.0), 1)

    parts = MLPEncoder(SHAPE, (5,), 6), MLPDecoder(4, SHAPE, (5,)), Branching(), vf.likelihoods.BernoulliLikelihood()
    vae = vf.VAE(*parts, latent_dim=4)
    expected = rf"posterior of an exported VAE: expected what PyTorch {torch.__version__.split('+')[0]}.* can record"
    with pytest.raises(vf.InvalidInputError, match=expected) as told:
        to_programs(vae, torch.rand(2, *SHAPE))
    assert "2.6 records the posteriors none and planar alone" in str(told.value)
    assert told.value.__cause__ is not None


@pytest.mark.parametrize("flow", ["zuko:NAF", "zuko:CNF", "zuko:BPF"])
def test_flows_that_torch_cannot_record_are_told_and_nothing_is_printed(flow: str, capfd: Any) -> None:
    pytest.importorskip("zuko", reason="needs the extra zuko")
    vae = make(flow)
    try:
        programs = to_programs(vae, torch.rand(2, *SHAPE))
    except vf.InvalidInputError as error:
        assert "posterior of an exported VAE" in str(error)  # noqa: PT017 -- newer releases may record it
    else:
        x, noise = torch.rand(3, *SHAPE), torch.randn(3, 4)
        with torch.no_grad():
            found = programs.encode.module()(x, noise)
            torch.testing.assert_close(found, expected(vae, x, noise), rtol=ROUNDING, atol=ROUNDING)
    assert capfd.readouterr() == ("", "")


def test_a_posterior_that_is_no_gaussian_is_refused() -> None:
    class Own(nn.Module):
        def forward(self, context: torch.Tensor) -> Independent:
            return Independent(torch.distributions.Gumbel(context[..., :4], 1.0), 1)

    vae = vf.VAE(
        MLPEncoder(SHAPE, (5,), 6),
        MLPDecoder(4, SHAPE, (5,)),
        Own(),
        vf.likelihoods.BernoulliLikelihood(),
        latent_dim=4,
    )
    with pytest.raises(vf.InvalidInputError, match="diagonal Gaussian"):
        to_programs(vae, torch.rand(2, *SHAPE))


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unitriangular", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_triangular_systems_are_solved_by_products(upper: bool, left: bool, unitriangular: bool, size: int) -> None:
    reseed(size)
    matrix = torch.randn(3, size, size, dtype=torch.float64) / 4 + 2 * torch.eye(size)
    matrix = matrix.triu() if upper else matrix.tril()
    right = torch.randn(3, size, size, dtype=torch.float64)
    options = {"upper": upper, "left": left, "unitriangular": unitriangular}
    wanted = torch.linalg.solve_triangular(matrix, right, **options)
    torch.testing.assert_close(_solve_triangular(matrix, right, **options), wanted, rtol=1e-11, atol=1e-11)


def test_a_difference_counts_relative_to_the_largest_number() -> None:
    assert _difference(np.array([100.0, 1.0]), np.array([100.0, 2.0])) == pytest.approx(0.01)
    assert _difference(np.array([0.0]), np.array([0.5])) == 0.5
    assert _difference(np.zeros(2), np.zeros(3)) == float("inf")
