"""What is checked: how to build a flow and how exact it claims to be; and how a check fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from vae_flows.checks import checked, require_takes
from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint
from vae_flows.flows.base import AmortizedFlow

__all__ = [
    "BATCH",
    "PERTURBATION",
    "Build",
    "Check",
    "ContractError",
    "FlowContract",
    "contract_check",
    "expect",
    "expect_close",
    "expect_error",
    "expect_shape",
]

BATCH = 5
PERTURBATION = 0.1

Build = Callable[[int, int], AmortizedFlow]
Check = Callable[["FlowContract"], None]


class ContractError(VAEFlowsError, AssertionError):
    """A flow does not keep what every flow promises; the message names the check, what it expected and what it got."""


@checked
@dataclass(frozen=True)
class FlowContract:
    """How to build the flow that is checked, and how exact it claims to be.

    Arguments:
        build: Returns a new flow for a latent size and a context size; a small one makes the checks fast.
        latent_dim: D.
        context_dim: C.
        tolerance: Largest error, absolute and relative, of a round trip and of the log-determinant in float64. The
            default suits closed forms; a solver or a bisection needs more than its own tolerance.
        latent_scale: Standard deviation of the values that are inverted. Lower it for a flow that does not reach all
            of the space.
        seed: Seed of weights and inputs.
    """

    build: Build
    latent_dim: int = 4
    context_dim: int = 3
    tolerance: float = 1e-8
    latent_scale: float = 10.0
    seed: int = 0

    @checked
    def flow(self, latent_dim: int | None = None) -> AmortizedFlow:
        """Return a flow in float64 and evaluation mode whose parameters were moved off their start.

        A start at zero could be right by accident.
        """
        flow = self.fresh(latent_dim).double().eval()
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(PERTURBATION * torch.randn_like(parameter))
        return flow

    @checked
    def fresh(self, latent_dim: int | None = None) -> AmortizedFlow:
        """Return a flow as it is built."""
        expected = "a callable that takes a latent size and a context size"
        require_takes("FlowContract build", expected, self.build, self.latent_dim, self.context_dim)
        flow = self.build(latent_dim or self.latent_dim, self.context_dim)
        expect(isinstance(flow, AmortizedFlow), "build", "an AmortizedFlow", type(flow).__name__)
        return flow

    @checked
    def context(self, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw a context `(*batch, C)`."""
        return torch.randn((*batch, self.context_dim), dtype=dtype)

    @checked
    def latents(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw latents `(*shape, D)`."""
        return min(1.0, self.latent_scale) * torch.randn((*shape, self.latent_dim), dtype=dtype)


def contract_check(run: Check) -> Check:
    """Make a check say its name, whatever goes wrong in it, and draw from the contract's seed."""

    @functools.wraps(run)
    def checked(contract: FlowContract) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(contract.seed)
            try:
                run(contract)
            except ContractError as error:
                raise ContractError(f"{run.__name__}: {error}") from error
            except Exception as error:
                raise ContractError(f"{run.__name__}: raised {type(error).__name__}: {error}") from error

    return checked


def expect(condition: bool, subject: str, expected: object, got: object) -> None:
    """Fail, in words, where the condition does not hold."""
    if not condition:
        raise ContractError(complaint(subject, expected, got))


def expect_close(subject: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Fail where shapes differ, or values by more than the tolerance times one plus their size."""
    expect_shape(subject, actual, expected.shape)
    excess = ((actual - expected).abs() / (1 + expected.abs())).detach()
    error = excess.max().item() if excess.numel() else 0.0
    expect(error <= tolerance, subject, f"an error of at most {tolerance:g}", f"{error:.3g}")


def expect_shape(subject: str, actual: Tensor, shape: Iterable[int]) -> None:
    """Fail where the tensor has another shape."""
    expect(actual.shape == Size(shape), subject, f"shape {tuple(shape)}", tuple(actual.shape))


def expect_error(subject: str, call: Callable[[], object]) -> None:
    """Fail where the call raises no `InvalidInputError`."""
    try:
        call()
    except InvalidInputError:
        return
    except Exception as error:
        raise ContractError(complaint(subject, "an InvalidInputError", f"{type(error).__name__}: {error}")) from error
    raise ContractError(complaint(subject, "an InvalidInputError", "no error"))
