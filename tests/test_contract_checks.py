"""Every check of the contract passes a right flow and can fail: each has a flow that is wrong in just that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Size, Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import AffineTransform as TorchAffineTransform

from vae_flows.errors import VAEFlowsError
from vae_flows.flows import AmortizedFlow
from vae_flows.testing import CHECKS, ContractError, FlowContract, check_flow
from vae_flows.transforms import FusedTransform


class AffineTransform(FusedTransform):
    """y = exp(s) x + m."""

    def __init__(self, shift: Tensor, log_scale: Tensor, cache_size: int = 1) -> None:
        super().__init__(shift.shape[-1], shift.shape[:-1], cache_size=cache_size)
        self.shift, self.log_scale = shift, log_scale

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.log_scale.exp() + self.shift, self.log_scale.sum(-1).expand(self.broadcast_shape(x))

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return (y - self.shift) * (-self.log_scale).exp(), self.log_scale.sum(-1).expand(self.broadcast_shape(y))


class AffineFlow(AmortizedFlow):
    Kind: type[AffineTransform] = AffineTransform

    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__(latent_dim, context_dim)
        self.head = nn.Linear(context_dim, 2 * latent_dim)

    def transform(self, context: Tensor) -> FusedTransform:
        return self.Kind(*self.head(context).chunk(2, -1))


class NotFused(AffineFlow):
    def transform(self, context: Tensor) -> FusedTransform:
        shift, log_scale = self.head(context).chunk(2, -1)
        return TorchAffineTransform(shift, log_scale.exp(), event_dim=1)  # pyright: ignore[reportReturnType]


class WrongInverse(AffineFlow):
    class Kind(AffineTransform):
        def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
            return super().inverse_with_log_det(y - 1e-6)


class WrongLogDet(AffineFlow):
    class Kind(AffineTransform):
        def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y, log_det = super().forward_with_log_det(x)
            return y, log_det * (1 + 1e-6)


class UnusedParameter(AffineFlow):
    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__(latent_dim, context_dim)
        self.unused = nn.Parameter(torch.zeros(2))


class HalfAGradient(AffineFlow):
    class Kind(AffineTransform):
        def __init__(self, shift: Tensor, log_scale: Tensor) -> None:
            super().__init__((shift + shift.detach()) / 2, log_scale)


class NarrowLogDet(AffineFlow):
    class Kind(AffineTransform):
        def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward_with_log_det(x)[0], self.log_scale.sum(-1)


class NarrowShape(AffineFlow):
    class Kind(AffineTransform):
        def forward_shape(self, shape: Sequence[int]) -> Size:
            return Size(shape)


class UncheckedContext(AffineFlow):
    def condition(self, context: Tensor) -> FusedTransform:
        return self.transform(context)


class DoubleValues(AffineFlow):
    class Kind(AffineTransform):
        def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y, log_det = super().forward_with_log_det(x)
            return y.double(), log_det


class NotOfTheLine(AffineFlow):
    def transform(self, context: Tensor) -> FusedTransform:
        shift, log_scale = self.head(context).chunk(2, -1)
        return self.Kind(shift / (self.latent_dim - 1), log_scale)


class HiddenState(AffineFlow):
    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__(latent_dim, context_dim)
        self.offset = [torch.rand(()).item()]

    def transform(self, context: Tensor) -> FusedTransform:
        shift, log_scale = self.head(context).chunk(2, -1)
        return self.Kind(shift + self.offset[0], log_scale)


class NotPickled(AffineFlow):
    def __init__(self, latent_dim: int, context_dim: int) -> None:
        super().__init__(latent_dim, context_dim)
        self.function = lambda: None


class NoCache(AffineFlow):
    def transform(self, context: Tensor) -> FusedTransform:
        return super().transform(context).with_cache(0)


class AlwaysCache(AffineFlow):
    class Kind(AffineTransform):
        def with_cache(self, cache_size: int = 1) -> FusedTransform:
            return self


class Noisy(AffineFlow):
    class Kind(AffineTransform):
        def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y, log_det = super().forward_with_log_det(x)
            return y, log_det + torch.randn(())


class StaleTransform(FusedTransform):
    """Reads parameters at each evaluation but does not tell so."""

    def __init__(self, flow: AffineFlow, context: Tensor) -> None:
        super().__init__(flow.latent_dim, context.shape[:-1])
        self.flow, self.context = flow, context

    def now(self) -> AffineTransform:
        return AffineTransform(*self.flow.head(self.context).chunk(2, -1))

    def forward_with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.now().forward_with_log_det(x)

    def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.now().inverse_with_log_det(y)


class Stale(AffineFlow):
    def transform(self, context: Tensor) -> FusedTransform:
        return StaleTransform(self, context)


class WrongSign(AffineFlow):
    class Kind(AffineTransform):
        def inverse_with_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
            x, log_det = super().inverse_with_log_det(y)
            return x, -log_det


class OfNumbers(AffineFlow):
    class Kind(AffineTransform):
        domain = constraints.real
        codomain = constraints.real


class Unnamed(AffineFlow):
    def __repr__(self) -> str:
        return "flow"


BROKEN = [
    ("transforms_are_pyros", NotFused, "expected a FusedTransform, got AffineTransform"),
    ("inverse_undoes_forward", WrongInverse, "inverse of a draw: expected an error of at most 1e-08, got"),
    ("log_det_is_that_of_the_jacobian", WrongLogDet, "log-determinant: expected an error"),
    ("gradients_reach_parameters_and_inputs", UnusedParameter, "gradient of unused, forward, training mode: .* none"),
    ("gradients_are_those_of_finite_differences", HalfAGradient, "forward gradient: expected within 0.02"),
    ("samples_and_batches_have_their_shapes", NarrowLogDet, r"log-determinant, sample shape \(7,\).*expected shape"),
    ("context_and_latents_broadcast", NarrowShape, "forward_shape, context batch"),
    ("wrong_inputs_are_errors", UncheckedContext, "context of another size: .*got RuntimeError"),
    ("dtype_is_kept", DoubleValues, "dtype of the results: expected torch.float32"),
    ("one_latent_dimension_works", NotOfTheLine, "expected finite, got NaN or infinity"),
    ("state_survives_a_file", HiddenState, "flow with loaded state: expected an error of at most 0"),
    ("copies_give_the_same_values", NotPickled, "raised .*pickle"),
    ("latest_evaluation_is_cached", NoCache, "inverse of a draw: expected the tensor it was drawn from"),
    ("cache_can_be_switched_off", AlwaysCache, "inverse without a cache: expected another tensor"),
    ("cache_can_be_switched_off", Noisy, "log-determinant: expected an error"),
    ("stale_evaluations_are_not_returned", Stale, "value after changed parameters"),
    ("densities_follow_the_change_of_variables", WrongSign, "log-density: expected an error"),
    ("works_in_plates", OfNumbers, "raised RuntimeError|expected"),
    ("repr_names_flow_and_sizes", Unnamed, "repr: expected latent_dim=4, context_dim=3, got flow"),
]


def test_a_right_flow_passes() -> None:
    check_flow(AffineFlow)


@pytest.mark.parametrize(
    ("name", "flow", "message"), BROKEN, ids=[f"{name}-{flow.__name__}" for name, flow, _ in BROKEN]
)
def test_a_wrong_flow_fails(name: str, flow: type[AmortizedFlow], message: str) -> None:
    check = next(check for check in CHECKS if check.__name__ == name)
    with pytest.raises(ContractError, match=rf"^{name}: .*{message}"):
        check(FlowContract(flow))


def test_every_check_is_seen_to_fail() -> None:
    assert {check.__name__ for check in CHECKS} == {name for name, _, _ in BROKEN}


def test_all_failures_are_told_at_once() -> None:
    with pytest.raises(ContractError, match=r"(?s)log_det_is_that_of_the_jacobian: .*\n.*densities_follow") as caught:
        check_flow(WrongLogDet)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, VAEFlowsError)


def test_what_is_built_must_be_a_flow() -> None:
    with pytest.raises(ContractError, match="build: expected an AmortizedFlow, got Linear"):
        CHECKS[0](FlowContract(nn.Linear))  # pyright: ignore[reportArgumentType]


def test_checks_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    for check in CHECKS:
        check(FlowContract(AffineFlow))
    assert torch.equal(torch.get_rng_state(), before)
