from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError
from vae_flows.transforms import (
    ChainTransform,
    FusedTransform,
    InverseAutoregressiveTransform,
    PlanarTransform,
    SylvesterTransform,
    orthonormalize,
)

DISCRETE = ("planar", "iaf", "sylvester-orthogonal", "sylvester-householder", "sylvester-triangular")
PROMISED = 0.05  # nats, as the library's error says
# The check measures one draw and the test another one: both are errors of the same size, not equal.
OF_ANOTHER_DRAW = 10 * PROMISED


@pytest.mark.parametrize("flow", DISCRETE)
@pytest.mark.parametrize(("latent_dim", "scale"), [(8, 1.0), (40, 1.0), (24, 5.0), (40, 2.5)])
def test_a_draw_scored_again_in_float32_is_close_or_told(flow: str, latent_dim: int, scale: float) -> None:
    posterior = vf.AmortizedPosterior(latent_dim, 32, flow=flow, initialization="published").eval()
    with torch.no_grad():
        q = posterior(scale * torch.randn(30, 32))
        z, drawn = q.rsample_with_log_prob()
        try:
            again = q.log_prob(z.clone())
        except InvalidInputError:
            again = None
    if again is None:
        assert flow.startswith("sylvester")
        assert scale > 1
        return
    assert (again - drawn).abs().median() < PROMISED / 5
    assert (again - drawn).abs().max() < OF_ANOTHER_DRAW


def steep_layers(count: int, size: float, dtype: torch.dtype) -> list[FusedTransform]:
    """Sylvester layers of 24 latents whose off-diagonals amplify rounding the more, the larger they are."""
    layers: list[FusedTransform] = []
    for _ in range(count):
        R1, R2 = (size * torch.randn(2, 24, 24)).triu(1).to(dtype)
        diagonal = torch.diag(torch.full((24,), 0.9)).to(dtype)
        Q = orthonormalize(torch.randn(24, 24).double()).to(dtype)
        layers.append(SylvesterTransform(Q, R1 + diagonal, R2 - diagonal, torch.randn(24).to(dtype)))
    return layers


@pytest.mark.parametrize("chained", [False, True])
def test_steep_transforms_are_told_in_float32_and_inverted_in_float64(chained: bool) -> None:
    for dtype in (torch.float32, torch.float64):
        reseed()
        layers = steep_layers(2, 2.0, dtype)
        transform = ChainTransform(layers) if chained else layers[0]
        x = torch.randn(200, 24, dtype=torch.float64).to(dtype)  # so many that some lie where the map is steep
        y = transform(x).clone()
        if dtype == torch.float32:
            with pytest.raises(
                InvalidInputError, match=r"in torch.float32: .* Convert the model and its inputs to float"
            ):
                transform.inverse_with_log_det(y)
        else:
            torch.testing.assert_close(
                transform.inverse_with_log_det(y)[0], x, rtol=1e-2, atol=1e-2
            )  # 1e-16, amplified


def test_gentle_chains_round_trip_in_value_and_log_determinant() -> None:
    network = torch.randn(24, 24).tril(-1) / 5
    autoregressive = InverseAutoregressiveTransform(
        lambda z: ((z @ network.mT.to(z.dtype)).sin(), (z @ network.mT.to(z.dtype)).cos()), 24, takes_double=True
    )
    planar = PlanarTransform(torch.randn(24), torch.randn(24), torch.randn(()))
    chain = ChainTransform([*steep_layers(2, 0.1, torch.float32), planar, autoregressive])
    x = torch.randn(50, 24)
    y, log_det = chain.forward_with_log_det(x)
    found, found_log_det = chain.inverse_with_log_det(y)
    assert found.dtype == found_log_det.dtype == torch.float32
    torch.testing.assert_close(found, x, rtol=0, atol=1e-3)  # the rounding of y, amplified
    torch.testing.assert_close(found_log_det, log_det, rtol=0, atol=1e-3)


def test_parameters_that_are_orthonormal_only_in_float32_do_not_spoil_the_inverse() -> None:
    # The closed form takes QᵀQ = I; what float32 lacks of it is worth far more than float64's rounding.
    layer = steep_layers(1, 0.3, torch.float32)[0]
    y = 3 * torch.randn(20, 24)
    x, log_det = layer.inverse_with_log_det(y)
    reached, there = layer.forward_with_log_det(x.double())
    torch.testing.assert_close(reached, y.double(), rtol=1e-6, atol=1e-6)  # x itself is rounded to float32
    torch.testing.assert_close(there, log_det.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("flow", [*DISCRETE, "none"])
@pytest.mark.filterwarnings("ignore:log q is computed in:UserWarning")
def test_16_bit_models_draw_score_and_learn(flow: str, dtype: torch.dtype) -> None:
    posterior = vf.AmortizedPosterior(6, 8, flow=flow).to(dtype)
    z, log_q = posterior(torch.randn(4, 8).to(dtype)).rsample_with_log_prob((3,))
    again = posterior(torch.randn(4, 8).to(dtype)).log_prob(z.detach().clone())
    assert {z.dtype, log_q.dtype, again.dtype} == {dtype}
    assert again.isfinite().all()
    (log_q.mean() + z.square().mean()).backward()
    for name, parameter in posterior.named_parameters():
        gradient = parameter.grad
        assert isinstance(gradient, Tensor), name
        assert gradient.isfinite().all(), name


def saved_by(function: Callable[[], object]) -> int:
    """Count the tensors that are kept for a backward pass."""
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return len(saved)


@pytest.mark.parametrize("flow", DISCRETE)
def test_what_refines_and_checks_an_inverse_keeps_nothing_for_the_backward_pass(flow: str) -> None:
    context, z = torch.randn(5, 8), torch.randn(5, 6)
    counts = {}
    for dtype in (torch.float32, torch.float64):
        posterior = vf.AmortizedPosterior(6, 8, flow=flow).to(dtype)
        q = posterior(context.to(dtype))
        counts[dtype] = saved_by(lambda q=q, dtype=dtype: q.log_prob(z.to(dtype)))
    # The inverse in float64 is the same; parameters are converted, which keeps nothing.
    assert counts[torch.float32] == counts[torch.float64] > 0


@pytest.mark.parametrize("flow", [*DISCRETE, "none"])
def test_values_of_single_precision_are_inverted_in_double(flow: str) -> None:
    (transform,) = vf.AmortizedPosterior(6, 8, flow=flow)(torch.randn(5, 8)).transforms
    assert isinstance(transform, FusedTransform)
    assert transform.takes_double
