import pytest
import torch
from torch import Size

from vae_flows.cnf import ExactDivergence, FunctionField, HutchinsonDivergence, MLPDynamics
from vae_flows.cnf.divergence import divergence_from
from vae_flows.errors import InvalidInputError, UnknownNameError

DRAWS = 20_000
STANDARD_ERRORS = 4.5  # two-sided false-alarm rate 7e-6 an entry


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
@pytest.mark.parametrize("num_probes", [1, 3])
def test_hutchinson_is_unbiased(noise, num_probes):
    torch.manual_seed(0)
    dynamics = MLPDynamics(3, (8, 8), activation="tanh").double()
    z, t = torch.randn(2, 3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    repeated = z.expand(DRAWS, 2, 3)
    divergence = HutchinsonDivergence(noise, num_probes)
    with torch.no_grad():
        field = dynamics.condition().prepare(repeated.shape[:-1])
        packed = field.pack(repeated, repeated.shape[:-1])
        exact = ExactDivergence().bind(field, None).evaluate(t, packed)[1]
        error = divergence.bind(field, divergence.draw_probes(packed)).evaluate(t, packed)[1] - exact
    error = field.unpack(error, repeated.shape[:-1])
    assert (error.std(0) > 0).all(), "an estimate without spread is no estimate"
    assert (error.mean(0).abs() < STANDARD_ERRORS * error.std(0) / DRAWS**0.5).all()


def test_rademacher_is_exact_on_diagonal_jacobians_and_gaussian_is_not():
    field = FunctionField(lambda t, z: -(z**3))
    z = torch.randn(50, 4, dtype=torch.float64)
    exact = field.with_trace().evaluate(0.0, z)[1]
    for noise, tight in (("rademacher", True), ("gaussian", False)):
        divergence = divergence_from("hutchinson", noise)
        estimate = divergence.bind(field, divergence.draw_probes(z)).evaluate(0.0, z)[1]
        assert torch.allclose(estimate, exact, rtol=1e-12) == tight


def test_more_probes_shrink_the_variance_as_one_over_their_number():
    torch.manual_seed(1)
    matrix = torch.randn(4, 4, dtype=torch.float64)
    field = FunctionField(lambda t, z: z @ matrix)
    z = torch.zeros(DRAWS, 4, dtype=torch.float64)
    with torch.no_grad():
        variances = [
            divergence.bind(field, divergence.draw_probes(z)).evaluate(0.0, z)[1].var()
            for divergence in (HutchinsonDivergence(num_probes=1), HutchinsonDivergence(num_probes=4))
        ]
    # The relative standard error of each variance is about (2 / DRAWS)^0.5 times a kurtosis factor below 4.
    assert float(variances[0] / variances[1]) == pytest.approx(4, rel=STANDARD_ERRORS * 4 * (4 / DRAWS) ** 0.5)


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
def test_probes_have_unit_second_moment_and_keep_dtype(noise):
    torch.manual_seed(2)
    probes = HutchinsonDivergence(noise).draw_probes(torch.zeros(DRAWS, 2, dtype=torch.float32))
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
    assert divergence_from(ExactDivergence()).draw_probes(torch.zeros(Size([2]))) is None
