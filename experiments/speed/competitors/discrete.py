"""Discrete flows with all of their parameters given: this library's, their published formulations, and peers.

The published formulations are written afresh from their papers, layer by layer: Rezende and Mohamed (2015, equations 10
to 12 and appendix A.1), Kingma et al. (2016, algorithm 1), van den Berg et al. (2018, section 3 and equation 17). All
take the weights of this library's flow, and emit parameters from the context by its heads. Pyro's planar transforms do
so too; Pyro's and zuko's autoregressive ones have networks of their own, of the same widths. Neither library has
Sylvester transforms of a context.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from pyro.distributions import transforms as pyro
from pyro.distributions.transforms.planar import ConditionedPlanar
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.speed.competitors.competitor import Entrant, Outcome, TorchCompetitor
from experiments.speed.competitors.roster import BASELINE, PUBLISHED, PYRO, ZUKO
from experiments.speed.meeting import Meeting
from experiments.speed.problems import Pass, draw_pass
from vae_flows.flows import AmortizedFlow, IAFFlow, make_flow

__all__ = ["DISCRETE_FLOWS", "DiscreteProblem", "discrete_meeting"]

_ORTHOGONAL_STEPS, _ORTHOGONAL_ERROR = 100, 1e-6
"""Steps of the published orthogonalisation at most, and the distance from orthonormality at which it ends."""


@dataclass(frozen=True, kw_only=True)
class DiscreteProblem(Pass):
    """The pass of a discrete flow, which is this library's: the others take their weights from it."""

    flow: AmortizedFlow

    def weights(self) -> dict[str, Tensor]:
        """Return all parameters; the first word of a name tells the group, `shared` or `head`."""
        named = self.flow.named_parameters()
        return {f"{'shared' if name.startswith('networks.') else 'head'} {name}": weight for name, weight in named}


class _Discrete(TorchCompetitor, ABC):
    """A flow of several layers, of whose dynamics nothing is evaluated."""

    def __init__(self, problem: DiscreteProblem, weights: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(problem, problem.weights() if weights is None else weights)
        self.flow: Any = problem.flow

    def count(self) -> int:
        return 0

    def outcome(self) -> Outcome:
        return super().outcome()._replace(forward_evaluations=None, backward_evaluations=None)


class _ThisLibrary(_Discrete):
    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.condition(context).forward_with_log_det(z)


class _PublishedPlanar(_Discrete):
    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        log_det = torch.zeros_like(z[:, 0])
        for u, w, b in zip(*(part.unbind(1) for part in self.flow.heads(context)), strict=True):
            product, square = (w * u).sum(-1, keepdim=True), (w * w).sum(-1, keepdim=True)
            direction = u + (F.softplus(product) - 1 - product) * w / square
            tanh = torch.tanh((w * z).sum(-1, keepdim=True) + b.unsqueeze(-1))
            z = z + direction * tanh
            log_det = log_det + (1 + (1 - tanh**2) * (w * direction).sum(-1, keepdim=True)).abs().log().squeeze(-1)
        return z, log_det


class _PublishedIAF(_Discrete):
    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        flow, log_det = cast(IAFFlow, self.flow), torch.zeros_like(z[:, 0])
        features = flow.features(context)
        for layer, network in enumerate(cast(Any, flow.networks)):
            z = z.flip(-1) if layer % 2 else z
            units = F.elu(F.linear(z, network.input.weight * network.input.mask, network.input.bias)) + features
            for hidden in network.hidden:
                units = F.elu(F.linear(units, hidden.weight * hidden.mask, hidden.bias))
            emitted = F.linear(units, network.output.weight * network.output.mask, network.output.bias)
            mean, logits = emitted.chunk(2, -1)
            gate = torch.sigmoid(logits + flow.forget_bias)
            z = gate * z + (1 - gate) * mean
            log_det = log_det + gate.log().sum(-1)
        return z, log_det


class _PublishedSylvester(_Discrete):
    @abstractmethod
    def bases(self, emitted: Tensor) -> Tensor:
        """Return Q `(N, layers, D, M)` from what the head emits for it."""

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        *matrices, diagonals, offsets, emitted = self.flow.heads(context)
        bases, log_det = self.bases(emitted), torch.zeros_like(z[:, 0])
        for layer, matrix in enumerate(matrices):
            first, second = torch.tanh(diagonals[:, layer]).unbind(1)
            R1 = matrix.triu(1) + torch.diag_embed(first)
            R2 = matrix.tril(-1).mT + torch.diag_embed(second)
            Q, b = bases[:, layer], offsets[:, layer]
            inner = torch.bmm(z.unsqueeze(1), torch.bmm(Q, R2.mT)).squeeze(1) + b
            tanh = torch.tanh(inner)
            z = z + torch.bmm(tanh.unsqueeze(1), torch.bmm(Q, R1).mT).squeeze(1)
            log_det = log_det + (1 + (1 - tanh**2) * first * second).abs().log().sum(-1)
        return z, log_det


class _PublishedOrthogonal(_PublishedSylvester):
    def bases(self, emitted: Tensor) -> Tensor:
        identity = torch.eye(emitted.shape[-1], dtype=emitted.dtype)
        Q = emitted / emitted.flatten(-2).norm(dim=-1)[..., None, None]
        for _ in range(_ORTHOGONAL_STEPS):
            gram = Q.mT @ Q
            Q = Q @ (identity + 0.5 * (identity - gram))
            if float((Q.mT @ Q - identity).detach().flatten(-2).norm(dim=-1).max()) <= _ORTHOGONAL_ERROR:
                break
        return Q


class _PublishedHouseholder(_PublishedSylvester):
    def bases(self, emitted: Tensor) -> Tensor:
        Q = identity = torch.eye(emitted.shape[-1], dtype=emitted.dtype)
        for vector in emitted.unbind(-2):
            v = (vector / vector.norm(dim=-1, keepdim=True)).unsqueeze(-1)
            Q = (identity - 2 * v @ v.mT) @ Q
        return Q


class _PublishedTriangular(_PublishedSylvester):
    def bases(self, emitted: Tensor) -> Tensor:
        return self.flow.permutations.value.expand(len(emitted), -1, -1, -1)


class _PyroPlanar(_Discrete):
    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        layers = zip(*(part.unbind(1) for part in self.flow.heads(context)), strict=True)
        return _through([ConditionedPlanar((b.unsqueeze(-1), u, w)) for u, w, b in layers], z)


class _PyroIAF(_Discrete):
    """Pyro's stable transform, which is the gated one, with its network for a context."""

    def __init__(self, problem: DiscreteProblem) -> None:
        flow = cast(IAFFlow, problem.flow)
        widths = [flow.hidden_dim] * (flow.num_hidden + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            networks = [
                ConditionalAutoRegressiveNN(flow.latent_dim, flow.context_dim, widths, nonlinearity=nn.ELU())
                for _ in range(flow.num_layers)
            ]
        self._parts = nn.ModuleList(
            pyro.ConditionalAffineAutoregressive(network, stable=True, sigmoid_bias=flow.forget_bias)
            for network in networks
        )
        super().__init__(problem, dict(self._parts.named_parameters()))

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return _through([cast(Any, part).condition(context) for part in self._parts], z)


class _ZukoIAF(_Discrete):
    """zuko's masked autoregressive transforms, run in the direction that takes one evaluation of each network."""

    def __init__(self, problem: DiscreteProblem) -> None:
        from zuko.flows import MAF

        flow = cast(IAFFlow, problem.flow)
        widths = [flow.hidden_dim] * (flow.num_hidden + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options: dict[str, Any] = {"hidden_features": widths, "activation": nn.ELU}
            self._transform = MAF(flow.latent_dim, flow.context_dim, flow.num_layers, **options).transform
        super().__init__(problem, dict(self._transform.named_parameters()))

    def solve(self, block: int, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self._transform(context).call_and_ladj(z)


def _through(transforms: list[Any], z: Tensor) -> tuple[Tensor, Tensor]:
    log_det = torch.zeros_like(z[:, 0])
    for transform in transforms:
        before, z = z, transform(z)
        log_det = log_det + transform.log_abs_det_jacobian(before, z)
    return z, log_det


_FORMULATIONS: Mapping[str, Mapping[str, Entrant]] = {
    name: {
        entrant.name: entrant for entrant in (Entrant(BASELINE, _ThisLibrary), Entrant(PUBLISHED, published), *peers)
    }
    for name, published, peers in (
        ("planar", _PublishedPlanar, [Entrant(PYRO, _PyroPlanar)]),
        (
            "iaf",
            _PublishedIAF,
            [Entrant(PYRO, _PyroIAF, divergence=None), Entrant(ZUKO, _ZukoIAF, ("zuko",), divergence=None)],
        ),
        ("sylvester-orthogonal", _PublishedOrthogonal, []),
        ("sylvester-householder", _PublishedHouseholder, []),
        ("sylvester-triangular", _PublishedTriangular, []),
    )
}
DISCRETE_FLOWS = tuple(_FORMULATIONS)


def discrete_meeting(name: str, *, latent_dim: int = 64, context_dim: int = 256, batch: int = 100) -> Meeting:
    """Return the meeting in a discrete flow of four layers, at its published start."""
    make_problem = partial(_make_problem, name, latent_dim, context_dim, batch)
    return Meeting(f"{name}, {latent_dim} latents", make_problem, partial(_entrants, name), _reference)


def _entrants(name: str) -> Mapping[str, Entrant]:
    return _FORMULATIONS[name]


def _make_problem(name: str, latent_dim: int, context_dim: int, batch: int) -> DiscreteProblem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = make_flow(name, latent_dim, context_dim, initialization="published")
        return DiscreteProblem(flow=cast(AmortizedFlow, flow), **draw_pass(batch, latent_dim, context_dim))


def _reference(problem: DiscreteProblem, _divergence: str) -> Outcome:
    """Compute a problem in double precision."""
    competitor = _ThisLibrary(problem.double())
    competitor.step()
    return competitor.outcome()
