import pytest
import torch

from vae_flows.cnf.layers import LayerUpdate, make_layer
from vae_flows.errors import UnknownNameError

NAMES = ["ignore", "concat", "squash", "concat_squash", "blend", "hyper"]


def formula(name, layer, t, x):
    """Each layer as its definition has it, one row at a time."""
    if name == "ignore":
        return layer.weight @ x + layer.bias
    if name == "concat":
        return torch.cat([layer.time_weight[:, None], layer.weight], 1) @ torch.cat([t.view(1), x]) + layer.bias
    if name in ("squash", "concat_squash"):
        result = (layer.weight @ x + layer.bias) * torch.sigmoid(layer.gate(t.view(1)))
        return result if name == "squash" else result + layer.time_weight * t
    if name == "blend":
        return (1 - t) * (layer.weight @ x + layer.bias) + t * layer.end(x)
    return (layer.weight + t * layer.rate.weight) @ x + layer.bias + t * layer.rate.bias


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_is_its_formula_plus_the_update(name):
    layer = make_layer(name, 3, 4).double()
    t, x = torch.tensor(0.3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    update = LayerUpdate(
        *(torch.randn(5, *shape, dtype=torch.float64) for shape in ((4,), (3, 2), (2, 4), (3, 4), (4,)))
    )
    assert update.left is not None
    assert update.right is not None
    assert update.dense is not None
    assert update.bias is not None
    assert update.time_weight is not None
    expected = torch.stack([formula(name, layer, t, row) for row in x])
    expected = expected + torch.einsum("ni,nir,nro->no", x, update.left, update.right) + update.bias
    expected = expected + torch.einsum("ni,nio->no", x, update.dense) + t * update.time_weight
    prepared = [layer.frozen(t, update)]
    if not layer.depends_on_time_in_weight:
        prepared.append(layer.constant(update))
    for ready in prepared:
        got = ready.product(x.unsqueeze(1)) + ready.offset(t)
        torch.testing.assert_close(got.squeeze(1), expected, rtol=0, atol=1e-12)
        back = ready.transposed_product(got)
        torch.testing.assert_close(back, got @ ready.matrix().mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_layers_that_ignore_time_ignore_it(name):
    layer = make_layer(name, 3, 4)
    (early, shift), (late, later_shift) = layer.at(0.0), layer.at(1.0)
    assert torch.equal(early, late) == (not layer.depends_on_time_in_weight)
    assert torch.equal(shift, later_shift) == (name == "ignore")


def test_unknown_names_are_told():
    with pytest.raises(UnknownNameError, match="Did you mean 'concat_squash'"):
        make_layer("concatsquash", 2, 2)
