"""Sylvester flows with amortised parameters, which differ in where Q comes from."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.flows.base import AmortizedFlow
from vae_flows.flows.constants import Constant
from vae_flows.flows.heads import Initialization, LinearHeads, bounded, require_initialization
from vae_flows.flows.registry import register_flow
from vae_flows.transforms.base import FusedTransform
from vae_flows.transforms.chain import ChainTransform
from vae_flows.transforms.orthogonal import householder_product, orthonormalize
from vae_flows.transforms.sylvester import SylvesterTransform

__all__ = ["HouseholderSylvesterFlow", "OrthogonalSylvesterFlow", "TriangularSylvesterFlow"]

# Size of R1 at the start, where the context is zero.
START = 0.07
# What the root mean square of contexts reaches in the heads, times √(M + 1): a row of R1 then adds up to about as much.
REACH = 0.4


class _SylvesterFlow(AmortizedFlow):
    """What the three Sylvester flows share: heads that emit R1, R2, b and the vectors from which `bases` makes Q.

    R1 is the upper triangle of one full matrix and R2 the transposed lower one. Their diagonals are emitted on their
    own and pass through tanh, so that every layer is invertible.

    Arguments:
        latent_dim: Size D of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of Sylvester transforms.
        initialization: `identity` or `published`.
        rank: M, the number of columns of Q.
        basis_shape: Shape of what is emitted for the Q of one layer.
    """

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        num_layers: int,
        initialization: Initialization,
        *,
        rank: int,
        basis_shape: tuple[int, ...],
    ) -> None:
        super().__init__(latent_dim, context_dim)
        require_positive(type(self).__name__, num_layers=num_layers)
        require_initialization(type(self).__name__, initialization)
        self.initialization = initialization
        self.num_layers = num_layers
        # A head a layer for the large matrices, which would be copied if they were taken from one tensor.
        matrices = [(rank, rank)] * num_layers
        self.heads = LinearHeads(
            context_dim, *matrices, (num_layers, 2, rank), (num_layers, rank), (num_layers, *basis_shape)
        )
        self.reach = REACH / (rank + 1) ** 0.5
        if initialization == "identity":
            self._start_near_the_identity(rank, basis_shape)
        # Products with masks, as triu and tril take three times as long.
        ones = torch.ones(rank, rank, device="cpu")
        self.strict_triangles = Constant(torch.stack((ones.triu(1), ones.tril(-1))))

    def _start_near_the_identity(self, rank: int, basis_shape: tuple[int, ...]) -> None:
        # A draw moves by R1 times numbers below 1, whatever the rest is. R2 starts near tanh(1), so that R1 learns from
        # the first step. Weights are the literature's: without an R1 that differs between contexts, flows learn less.
        layers = self.num_layers
        triangles = START / rank**0.5 * torch.randn(layers, rank, rank)
        diagonals = torch.stack((START * torch.randn(layers, rank), torch.ones(layers, rank)), dim=1)
        bases = torch.randn(layers, *basis_shape)
        self.heads.start_at([*triangles, diagonals, torch.zeros(layers, rank), bases], [1.0] * len(self.heads.shapes))

    @abstractmethod
    def bases(self, emitted: Tensor) -> Tensor:
        """Make Q `(*batch, num_layers, D, M)` from `emitted (*batch, num_layers, *basis_shape)`."""

    def transform(self, context: Tensor) -> FusedTransform:
        if self.initialization == "identity":
            context = bounded(context, self.reach)
        *matrices, diagonals, b, emitted = self.heads(context)
        layers = zip(
            self.bases(emitted).unbind(-3), matrices, _open_tanh(diagonals).unbind(-3), b.unbind(-2), strict=True
        )
        return ChainTransform([self._layer(*parameters) for parameters in layers])

    def _layer(self, Q: Tensor, matrix: Tensor, diagonals: Tensor, b: Tensor) -> SylvesterTransform:
        upper, lower = (
            torch.addcmul(torch.diag_embed(diagonal), matrix, mask)
            for mask, diagonal in zip(self.strict_triangles.value, diagonals.unbind(-2), strict=True)
        )
        return SylvesterTransform(Q, upper, lower.mT, b)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_layers={self.num_layers}, initialization={self.initialization!r}"


def _open_tanh(values: Tensor) -> Tensor:
    # Large values round tanh to ±1, and a product of -1 would make a layer singular.
    return torch.tanh(values) * (1 - torch.finfo(values.dtype).eps)


@register_flow("sylvester-orthogonal")
class OrthogonalSylvesterFlow(_SylvesterFlow):
    """Sylvester transforms in a subspace whose orthonormal basis is emitted from the context.

    Source: van den Berg et al. (2018), "Sylvester normalizing flows for variational inference", section 3.

    Arguments:
        latent_dim: Size D of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of Sylvester transforms.
        num_orthogonal: Dimension M of the subspaces, at most D; 8, or D where that is less, if `None`.
        initialization: `identity` starts near the identity, with heads that see no more of a context than its direction
            once it is large; `published` is the literature's flow and start, PyTorch's of linear layers, which moves a
            draw the further, the larger the context.

    Raises:
        InvalidInputError: A size is not a positive integer, `num_orthogonal` exceeds `latent_dim`, or there is no such
            initialisation.

    Example:
        >>> flow = OrthogonalSylvesterFlow(latent_dim=6, context_dim=8, num_orthogonal=3)
        >>> flow(torch.randn(5, 8))(torch.randn(5, 6)).shape
        torch.Size([5, 6])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        *,
        num_layers: int = 4,
        num_orthogonal: int | None = None,
        initialization: Initialization = "identity",
    ) -> None:
        require_positive(type(self).__name__, latent_dim=latent_dim)
        rank = min(8, latent_dim) if num_orthogonal is None else num_orthogonal
        require_positive(type(self).__name__, num_orthogonal=rank)
        if rank > latent_dim:
            raise InvalidInputError(
                complaint(type(self).__name__, f"num_orthogonal at most latent_dim = {latent_dim}", rank)
            )
        super().__init__(latent_dim, context_dim, num_layers, initialization, rank=rank, basis_shape=(latent_dim, rank))
        self.num_orthogonal = rank

    def bases(self, emitted: Tensor) -> Tensor:
        return orthonormalize(emitted)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_orthogonal={self.num_orthogonal}"


@register_flow("sylvester-householder")
class HouseholderSylvesterFlow(_SylvesterFlow):
    """Sylvester transforms of the full latent space, in a basis that is a product of emitted reflections.

    Source: van den Berg et al. (2018), "Sylvester normalizing flows for variational inference", section 3.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of Sylvester transforms.
        num_reflections: Number of Householder reflections in each layer.
        initialization: `identity` starts near the identity, with heads that see no more of a context than its direction
            once it is large; `published` is the literature's flow and start, PyTorch's of linear layers, which moves a
            draw the further, the larger the context.

    Raises:
        InvalidInputError: A size is not a positive integer, or there is no such initialisation.

    Example:
        >>> flow = HouseholderSylvesterFlow(latent_dim=6, context_dim=8)
        >>> flow(torch.randn(5, 8))(torch.randn(5, 6)).shape
        torch.Size([5, 6])
    """

    @checked
    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        *,
        num_layers: int = 4,
        num_reflections: int = 8,
        initialization: Initialization = "identity",
    ) -> None:
        require_positive(type(self).__name__, num_reflections=num_reflections)
        super().__init__(
            latent_dim,
            context_dim,
            num_layers,
            initialization,
            rank=latent_dim,
            basis_shape=(num_reflections, latent_dim),
        )
        self.num_reflections = num_reflections

    def bases(self, emitted: Tensor) -> Tensor:
        return householder_product(emitted)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_reflections={self.num_reflections}"


@register_flow("sylvester-triangular")
class TriangularSylvesterFlow(_SylvesterFlow):
    """Sylvester transforms of the full latent space that take its components in order and in reverse, by turns.

    Source: van den Berg et al. (2018), "Sylvester normalizing flows for variational inference", section 3.

    Arguments:
        latent_dim: Size of the latent vectors.
        context_dim: Size of the context vectors.
        num_layers: Number of Sylvester transforms.
        initialization: `identity` starts near the identity, with heads that see no more of a context than its direction
            once it is large; `published` is the literature's flow and start, PyTorch's of linear layers, which moves a
            draw the further, the larger the context.

    Raises:
        InvalidInputError: A size is not a positive integer, or there is no such initialisation.

    Example:
        >>> flow = TriangularSylvesterFlow(latent_dim=6, context_dim=8)
        >>> flow(torch.randn(5, 8))(torch.randn(5, 6)).shape
        torch.Size([5, 6])
    """

    @checked
    def __init__(
        self, latent_dim: int, context_dim: int, *, num_layers: int = 4, initialization: Initialization = "identity"
    ) -> None:
        super().__init__(latent_dim, context_dim, num_layers, initialization, rank=latent_dim, basis_shape=(0,))
        identity = torch.eye(latent_dim, device="cpu")
        orders = [identity.flip(0) if layer % 2 else identity for layer in range(num_layers)]
        self.permutations = Constant(torch.stack(orders))

    def bases(self, emitted: Tensor) -> Tensor:
        return self.permutations.value
