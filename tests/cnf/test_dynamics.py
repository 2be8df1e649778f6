import pytest
import torch
from torch import Size

from tests.seeds import reseed
from vae_flows.cnf import ContinuousTransform, LayerUpdate, MLPDynamics, ODESolver
from vae_flows.cnf.fields import ProductsField
from vae_flows.errors import InvalidInputError, UnknownNameError

ROUNDING = 1e-12  # float64, sums of a few hundred terms
WIDTHS = [(7,), (7, 6), (7, 6, 5)]


def make(hidden_dims, batch=(4,), rank=2, amortized=True, **options):
    reseed(1)
    dynamics = MLPDynamics(3, hidden_dims, **options).double()
    updates = None
    # Updates that leave activations far below 20, beyond which torch's softplus has a slope of exactly 1.
    if amortized:
        updates = [
            LayerUpdate(
                torch.randn(*batch, fan_out).double(),
                torch.randn(*batch, fan_in, rank).double() / fan_in**0.5,
                torch.randn(*batch, rank, fan_out).double() / rank**0.5,
            )
            for fan_in, fan_out in zip(dynamics.widths[:-1], dynamics.widths[1:], strict=True)
        ]
    return dynamics, updates


def reference(dynamics, updates, t, z):
    """The dynamics, one layer after the other, one example at a time."""
    rows = []
    for n, x in enumerate(z):
        for index, layer in enumerate(dynamics.layers):
            out = layer.weight @ x + layer.bias
            rate = layer.shift_rate()
            if rate is not None:
                out = out + rate * t
            if updates is not None:
                out = out + (x @ updates[index].left[n]) @ updates[index].right[n] + updates[index].bias[n]
            x = out if index == len(dynamics.layers) - 1 else torch.nn.functional.softplus(out)
        rows.append(x)
    return torch.stack(rows)


@pytest.mark.parametrize("hidden_dims", WIDTHS)
@pytest.mark.parametrize("amortized", [False, True])
@pytest.mark.parametrize("time_conditioning", ["concat", "ignore"])
def test_value_trace_and_quadratic_form_agree_with_autograd(hidden_dims, amortized, time_conditioning):
    dynamics, updates = make(hidden_dims, amortized=amortized, time_conditioning=time_conditioning)
    z, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    shape = Size([4])
    field = dynamics.condition(updates, (4,) if amortized else ()).prepare(shape)
    packed = field.pack(z, shape)
    expected = reference(dynamics, updates, t, z)
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda row, n=n: reference(
                    dynamics,
                    None
                    if updates is None
                    else [LayerUpdate(*(None if p is None else p[n : n + 1] for p in u)) for u in updates],
                    t,
                    row[None],
                )[0],
                z[n],
            )
            for n in range(4)
        ]
    )
    torch.testing.assert_close(field.unpack(field.value(t, packed), shape), expected, rtol=0, atol=ROUNDING)
    dz, trace = field.with_trace().value_and_trace(t, packed)
    torch.testing.assert_close(field.unpack(dz, shape), expected, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(
        field.unpack(trace, shape), jacobian.diagonal(dim1=1, dim2=2).sum(-1), rtol=0, atol=100 * ROUNDING
    )
    probes = torch.randn(2, 4, 3, dtype=torch.float64)
    dz, form = field.with_probes(torch.stack([field.pack(p, shape) for p in probes])).value_and_trace(t, packed)
    torch.testing.assert_close(field.unpack(dz, shape), expected, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(
        field.unpack(form, shape),
        torch.einsum("pni,nij,pnj->pn", probes, jacobian, probes).mean(0),
        rtol=0,
        atol=100 * ROUNDING,
    )


@pytest.mark.parametrize("hidden_dims", WIDTHS)
def test_samples_share_the_parameters_of_their_example(hidden_dims):
    dynamics, updates = make(hidden_dims)
    z, t = torch.randn(5, 4, 3, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    field = dynamics.condition(updates, (4,)).prepare(z.shape[:-1])
    dz, trace = field.with_trace().value_and_trace(t, field.pack(z, z.shape[:-1]))
    dz, trace = field.unpack(dz, z.shape[:-1]), field.unpack(trace, z.shape[:-1])
    for s in range(5):
        one = dynamics.condition(updates, (4,)).prepare(Size([4]))
        dz_one, trace_one = one.with_trace().value_and_trace(t, one.pack(z[s], Size([4])))
        torch.testing.assert_close(dz[s], one.unpack(dz_one, Size([4])), rtol=0, atol=ROUNDING)
        torch.testing.assert_close(trace[s], one.unpack(trace_one, Size([4])), rtol=0, atol=100 * ROUNDING)


@pytest.mark.parametrize("hidden_dims", [(), (0,), (8, -1), (2.5,)])
def test_hidden_dims_are_checked(hidden_dims):
    with pytest.raises(InvalidInputError, match="hidden_dims"):
        MLPDynamics(2, hidden_dims)


def test_names_and_update_counts_are_checked():
    with pytest.raises(UnknownNameError, match="MLPDynamics time_conditioning: expected one of"):
        MLPDynamics(2, (4,), time_conditioning="konkat")
    with pytest.raises(UnknownNameError, match="activation"):
        MLPDynamics(2, (4,), activation="relu6")
    with pytest.raises(InvalidInputError, match="one per layer, 2"):
        MLPDynamics(2, (4,)).condition([LayerUpdate()])


@pytest.mark.parametrize("time_conditioning", ["squash", "concat_squash", "blend", "hyper"])
@pytest.mark.parametrize(
    ("hidden_dims", "activation"), [*((widths, "tanh") for widths in WIDTHS), (WIDTHS[1], "swish")]
)
def test_weights_that_move_with_time(time_conditioning, hidden_dims, activation):
    """Value, trace and estimate against brute force, and the gradient methods against each other."""
    dynamics, updates = make(hidden_dims, time_conditioning=time_conditioning, activation=activation)
    updates = [LayerUpdate(*(None if part is None else part / 4 for part in update)) for update in updates]
    z, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    field = dynamics.condition(updates, (4,)).prepare(Size([4]))
    packed = field.pack(z, Size([4]))
    value, trace = ProductsField(field).value_and_trace(t, packed)
    torch.testing.assert_close(field.value(t, packed), value, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(field.with_trace().value_and_trace(t, packed)[1], trace, rtol=0, atol=1e-10)
    probes = torch.eye(3).double()[:, None, None].expand(3, *packed.shape)
    torch.testing.assert_close(3 * field.with_probes(probes).value_and_trace(t, packed)[1], trace, rtol=0, atol=1e-10)
    gradients = []
    for gradient in ("backprop", "recompute", "adjoint"):
        reseed(3)
        solver = ODESolver(rtol=1e-7, atol=1e-7, gradient=gradient)
        y, log_det = ContinuousTransform(dynamics.condition(updates, (4,)), solver=solver).forward_with_log_det(z)
        gradients.append(torch.autograd.grad(y.sin().sum() + log_det.sum(), list(dynamics.parameters())))
    for other, tolerance in zip(gradients[1:], (1e-10, 1e-3), strict=True):  # rounding; the adjoint's own solve
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
