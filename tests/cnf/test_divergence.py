import re

import pytest
import torch
from torch import Size

from tests.seeds import reseed, reseed_as_documented
from vae_flows.cnf import (
    BottleneckDivergence,
    ContinuousTransform,
    ExactDivergence,
    FunctionField,
    HutchinsonDivergence,
    MLPDynamics,
    ODESolver,
)
from vae_flows.cnf import divergence as divergence_module
from vae_flows.cnf.divergence import divergence_from
from vae_flows.errors import InvalidInputError, UnknownNameError

DRAWS = 20_000
STANDARD_ERRORS = 4.5  # two-sided false-alarm rate 7e-6 per entry


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
@pytest.mark.parametrize("num_probes", [1, 3])
def test_hutchinson_is_unbiased(noise, num_probes):
    reseed()
    dynamics = MLPDynamics(3, (8, 8), activation="tanh").double()
    z, t = torch.randn(2, 3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    repeated = z.expand(DRAWS, 2, 3)
    divergence = HutchinsonDivergence(noise, num_probes)
    with torch.no_grad():
        field = dynamics.condition().prepare(repeated.shape[:-1])
        packed = field.pack(repeated, repeated.shape[:-1])
        exact = ExactDivergence().bind(field, None).value_and_trace(t, packed)[1]
        error = divergence.bind(field, divergence.draw_probes(field, packed)).value_and_trace(t, packed)[1] - exact
    error = field.unpack(error, repeated.shape[:-1])
    assert (error.std(0) > 0).all(), "an estimate without spread is no estimate"
    assert (error.mean(0).abs() < STANDARD_ERRORS * error.std(0) / DRAWS**0.5).all()


def test_rademacher_is_exact_on_diagonal_jacobians_and_gaussian_is_not():
    field = FunctionField(lambda t, z: -(z**3))
    z = torch.randn(50, 4, dtype=torch.float64)
    exact = field.with_trace().value_and_trace(0.0, z)[1]
    for noise, tight in (("rademacher", True), ("gaussian", False)):
        divergence = divergence_from("hutchinson", noise)
        estimate = divergence.bind(field, divergence.draw_probes(field, z)).value_and_trace(0.0, z)[1]
        assert torch.allclose(estimate, exact, rtol=1e-12) == tight


def test_more_probes_shrink_the_variance_as_one_over_their_number():
    reseed(1)
    matrix = torch.randn(4, 4, dtype=torch.float64)
    field = FunctionField(lambda t, z: z @ matrix)
    z = torch.zeros(DRAWS, 4, dtype=torch.float64)
    with torch.no_grad():
        variances = [
            divergence.bind(field, divergence.draw_probes(field, z)).value_and_trace(0.0, z)[1].var()
            for divergence in (HutchinsonDivergence(num_probes=1), HutchinsonDivergence(num_probes=4))
        ]
    # The relative standard error of each variance is about (2 / DRAWS)^0.5 times a kurtosis factor below 4.
    assert float(variances[0] / variances[1]) == pytest.approx(4, rel=STANDARD_ERRORS * 4 * (4 / DRAWS) ** 0.5)


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_probes_have_unit_second_moment_and_keep_dtype(noise):
    reseed(2)
    probes = HutchinsonDivergence(noise).draw_probes(
        FunctionField(lambda t, z: z), torch.zeros(DRAWS, 2, dtype=torch.float32)
    )
    assert probes.dtype == torch.float32
    second = probes.mT @ probes / DRAWS
    assert torch.allclose(second.squeeze(0), torch.eye(2), atol=STANDARD_ERRORS * (2 / DRAWS) ** 0.5)


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="divergence"):
        divergence_from("hutchinsson")
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian'"):
        HutchinsonDivergence("gausian")
    with pytest.raises(InvalidInputError, match="num_probes"):
        HutchinsonDivergence(num_probes=0)
    with pytest.raises(InvalidInputError, match="probes"):
        HutchinsonDivergence().bind(FunctionField(lambda t, z: z), None)
    assert divergence_from(ExactDivergence()).draw_probes(FunctionField(lambda t, z: z), torch.zeros(Size([2]))) is None


BOTTLENECKS = [(5,), (2,), (3, 7), (7, 3), (6, 5, 4)]


@pytest.mark.parametrize("hidden_dims", BOTTLENECKS)
@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_bottleneck_estimator_is_unbiased_with_noise_of_the_narrow_width(hidden_dims, noise):
    reseed()
    dynamics = MLPDynamics(4, hidden_dims, activation="tanh").double()
    z = torch.randn(4, dtype=torch.float64).expand(DRAWS, 4)
    divergence = BottleneckDivergence(noise, num_probes=2)
    with torch.no_grad():
        field = dynamics.condition().prepare(z.shape[:-1])
        packed = field.pack(z, z.shape[:-1])
        exact = field.with_trace().value_and_trace(0.3, packed)[1]
        probes = divergence.draw_probes(field, packed)
        assert probes.shape == (2, *packed.shape[:-1], min(hidden_dims))
        error = (divergence.bind(field, probes).value_and_trace(0.3, packed)[1] - exact).flatten()
    assert abs(float(error.mean())) < STANDARD_ERRORS * float(error.std()) / DRAWS**0.5 + 1e-12


@pytest.mark.parametrize("hidden_dims", BOTTLENECKS[:4])
def test_bottleneck_gradients_written_by_hand(hidden_dims):
    reseed()
    dynamics = MLPDynamics(4, hidden_dims).double()
    z = torch.randn(6, 4, dtype=torch.float64)
    gradients = []
    for fused in (True, False):
        reseed(1)
        solver = ODESolver(fused=fused)
        transform = ContinuousTransform(dynamics.condition(), divergence="bottleneck", num_probes=2, solver=solver)
        y, log_det = transform.forward_with_log_det(z)
        gradients.append(torch.autograd.grad(y.sin().sum() + log_det.cos().sum(), list(dynamics.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_bottleneck_needs_a_known_composition():
    with pytest.raises(InvalidInputError, match="dynamics made of layers"):
        BottleneckDivergence().draw_probes(FunctionField(lambda t, z: z), torch.zeros(1, 2))
    field = MLPDynamics(4, (2, 5, 6)).condition().prepare(Size([1]))
    with pytest.raises(InvalidInputError, match="narrowest hidden layer last"):
        BottleneckDivergence().draw_probes(field, torch.zeros(1, 1, 4))


def test_brute_force_is_the_trace():
    reseed()
    field = MLPDynamics(4, (7, 6)).double().condition().prepare(Size([5]))
    z = torch.randn(1, 5, 4, dtype=torch.float64)
    brute = divergence_from("brute_force").bind(field, None).value_and_trace(0.2, z)
    for got, expected in zip(field.with_trace().value_and_trace(0.2, z), brute, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_variance_is_what_the_documentation_says(noise):
    """2 |sym J|², less 2 Σ J_ii² for Rademacher noise."""
    reseed(3)
    matrix = torch.randn(4, 4, dtype=torch.float64)
    symmetric = (matrix + matrix.mT) / 2
    expected = 2 * symmetric.square().sum()
    if noise == "rademacher":
        expected = expected - 2 * symmetric.diagonal().square().sum()
    field = FunctionField(lambda t, z: z @ matrix)
    z = torch.zeros(DRAWS, 4, dtype=torch.float64)
    divergence = HutchinsonDivergence(noise)
    with torch.no_grad():
        estimates = divergence.bind(field, divergence.draw_probes(field, z)).value_and_trace(0.0, z)[1]
    # Relative standard error of a variance: ((kurtosis - 1) / n)^0.5, kurtosis below 15 for these quadratic forms.
    assert float(estimates.var()) == pytest.approx(float(expected), rel=STANDARD_ERRORS * (14 / DRAWS) ** 0.5)


@pytest.mark.parametrize("line", [line for line in divergence_module.__doc__.splitlines() if re.match(r"\| \d", line)])
def test_figures_of_the_documentation(line):
    """Each standard deviation within 5 standard errors, of 4 % with a kurtosis of 13: a false alarm in 10⁵ runs."""
    hidden, *expected = (cell.strip() for cell in line.strip("| ").split("|"))
    reseed_as_documented()  # of one network: others differ by half
    dynamics = MLPDynamics(64, tuple(map(int, hidden.split("-"))), activation="tanh")
    with torch.no_grad():
        for layer in dynamics.layers:
            layer.weight.mul_(3)
        z = torch.randn(1, 64).expand(1000, 64)
        field = dynamics.condition().prepare(Size([1000]))
        packed = field.pack(z, Size([1000]))
        reseed(1)
        estimators = [
            HutchinsonDivergence("gaussian"),
            HutchinsonDivergence("rademacher"),
            HutchinsonDivergence("rademacher", num_probes=4),
            BottleneckDivergence("gaussian"),
            BottleneckDivergence("rademacher"),
        ]
        for estimator, figure in zip(estimators, expected, strict=True):
            probes = estimator.draw_probes(field, packed)
            estimates = estimator.bind(field, probes).value_and_trace(0.2, packed)[1]
            assert float(estimates.std()) == pytest.approx(float(figure), rel=0.2)


@pytest.mark.parametrize(
    ("hidden_dims", "index"), [((5,), 0), ((2, 7), 0), ((7, 2), 1), ((4, 4), 1), ((6, 5, 4), 2), ((6, 4, 4), 2)]
)
def test_the_bottleneck_is_the_narrowest_layer_and_of_several_the_last(hidden_dims, index):
    """The last one has tangents that pass from layer to layer; the first of two needs the product of two matrices."""
    field = MLPDynamics(3, hidden_dims).condition().prepare(Size([1]))
    assert field.narrowest == index
    assert field.bottleneck_width() == min(hidden_dims)
