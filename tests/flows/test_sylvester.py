from __future__ import annotations

import pytest
import torch

from vae_flows.errors import InvalidInputError
from vae_flows.flows import AmortizedFlow, HouseholderSylvesterFlow, OrthogonalSylvesterFlow, TriangularSylvesterFlow
from vae_flows.flows.heads import Initialization, bounded
from vae_flows.transforms import ChainTransform, SylvesterTransform, householder_product, orthonormalize

Kind = type[HouseholderSylvesterFlow] | type[OrthogonalSylvesterFlow] | type[TriangularSylvesterFlow]
FLOWS: list[Kind] = [HouseholderSylvesterFlow, OrthogonalSylvesterFlow, TriangularSylvesterFlow]


def layers_of(flow: AmortizedFlow, context: torch.Tensor) -> list[SylvesterTransform]:
    chain = flow(context)
    assert isinstance(chain, ChainTransform)
    layers = [part for part in chain.parts if isinstance(part, SylvesterTransform)]
    assert len(layers) == len(chain.parts)
    return layers


def emitted(flow: HouseholderSylvesterFlow | OrthogonalSylvesterFlow | TriangularSylvesterFlow, context: torch.Tensor):
    return flow.heads(context if flow.initialization == "published" else bounded(context, flow.reach))


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("initialization", ["identity", "published"])
def test_triangles_come_from_one_matrix_and_diagonals_from_tanh(kind: Kind, initialization: Initialization) -> None:
    flow = kind(4, 3, num_layers=2, initialization=initialization)
    context = torch.randn(5, 3)
    first, second, diagonals, b, _ = emitted(flow, context)
    for index, (layer, matrix) in enumerate(zip(layers_of(flow, context), (first, second), strict=True)):
        for triangle, source, which in ((layer._R1, matrix, 0), (layer._R2, matrix.mT, 1)):
            diagonal = torch.diag_embed(torch.tanh(diagonals[:, index, which]))
            torch.testing.assert_close(triangle, source.triu(1) + diagonal)
        assert torch.equal(layer._b.squeeze(-2), b[:, index])


def test_bases() -> None:
    context, identity = torch.randn(5, 3), torch.eye(4)
    orthogonal = OrthogonalSylvesterFlow(4, 3, num_layers=2, num_orthogonal=2)
    householder = HouseholderSylvesterFlow(4, 3, num_layers=2, num_reflections=3)
    triangular = TriangularSylvesterFlow(4, 3, num_layers=2)
    for index in range(2):
        expected = {
            orthogonal: orthonormalize(emitted(orthogonal, context)[-1])[:, index],
            householder: householder_product(emitted(householder, context)[-1])[:, index],
            triangular: (identity, identity.flip(0))[index],
        }
        for flow, Q in expected.items():
            torch.testing.assert_close(layers_of(flow, context)[index]._Q, Q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_diagonals_stay_invertible(dtype: torch.dtype) -> None:
    # tanh rounds to 1 and -1 here, and at z = 0 a product of -1 would make the log-determinant infinite.
    flow = TriangularSylvesterFlow(4, 3, num_layers=1).to(dtype)
    with torch.no_grad():
        flow.heads.linear.bias.zero_()
        flow.heads.linear.bias[16:24] = torch.tensor([50.0, -50.0]).repeat_interleave(4)
    transform = flow(torch.zeros(3, dtype=dtype))
    z = torch.zeros(4, dtype=dtype)
    assert transform.forward_with_log_det(z)[1].isfinite()
    assert torch.equal(transform.inverse_with_log_det(z)[0], z)


def test_dimension_of_the_subspaces() -> None:
    assert OrthogonalSylvesterFlow(4, 3).num_orthogonal == 4
    assert OrthogonalSylvesterFlow(64, 3).num_orthogonal == 8
    with pytest.raises(InvalidInputError, match="num_orthogonal at most latent_dim = 4, got 5"):
        OrthogonalSylvesterFlow(4, 3, num_orthogonal=5)


def test_sizes_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="HouseholderSylvesterFlow num_reflections: expected a positive"):
        HouseholderSylvesterFlow(4, 3, num_reflections=0)
    with pytest.raises(InvalidInputError, match="OrthogonalSylvesterFlow num_orthogonal: expected a positive"):
        OrthogonalSylvesterFlow(4, 3, num_orthogonal=0)
    for kind in FLOWS:
        with pytest.raises(InvalidInputError, match=f"{kind.__name__} num_layers: expected a positive integer"):
            kind(4, 3, num_layers=0)
