import pytest
import torch
from pyro.distributions import constraints
from torch.autograd.functional import jacobian

from vae_flows.errors import InvalidInputError
from vae_flows.guides.sites import LocalSite, LowerTriangularTransform, PackedTransform

INVERSE = 1e-9  # rounding of float64 through exponentials and their logarithms


def below_diagonal(offset):
    return lambda matrix: matrix[tuple(torch.tril_indices(*matrix.shape, offset=offset))]


BOUNDS = torch.tensor([[0.0, -2.0], [1.0, 5.0]], dtype=torch.float64)

# support, event shape, number of unconstrained coordinates, and the free coordinates of a value
SUPPORTS = {
    "real": (constraints.real, (), 1, lambda y: y),
    "real matrix": (constraints.real, (2, 3), 6, lambda y: y),
    "positive": (constraints.positive, (), 1, lambda y: y),
    "nonnegative vector": (constraints.nonnegative, (3,), 3, lambda y: y),
    "greater than": (constraints.greater_than(2.0), (2,), 2, lambda y: y),
    "less than": (constraints.less_than(-1.0), (2,), 2, lambda y: y),
    "interval": (constraints.interval(-1.0, 3.0), (2,), 2, lambda y: y),
    "unit interval": (constraints.unit_interval, (), 1, lambda y: y),
    "bounds for each": (
        constraints.interval(*BOUNDS),
        (2,),
        2,
        lambda y: y,
    ),
    "simplex": (constraints.simplex, (4,), 3, lambda y: y[:-1]),
    "simplices": (constraints.simplex, (2, 3), 4, lambda y: y[:, :-1]),
    "ordered": (constraints.ordered_vector, (3,), 3, lambda y: y),
    "positive ordered": (constraints.positive_ordered_vector, (3,), 3, lambda y: y),
    "correlation Cholesky": (constraints.corr_cholesky, (3, 3), 3, below_diagonal(-1)),
    "correlation": (constraints.corr_matrix, (3, 3), 3, below_diagonal(-1)),
    "lower Cholesky": (constraints.lower_cholesky, (3, 3), 6, below_diagonal(0)),
    "positive definite": (constraints.positive_definite, (3, 3), 6, below_diagonal(0)),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_bijection_of_each_support(name):
    support, shape, size, free = SUPPORTS[name]
    site = LocalSite("w", shape, support)
    assert site.size == size
    u = torch.randn(5, size, dtype=torch.float64)
    transform = site.transform()
    value = transform(u)
    assert value.shape == (5, *shape)
    assert bool(site.support.check(value).all())
    assert transform.inv(value) is transform.inv(value)  # remembered
    torch.testing.assert_close(site.transform().inv(value.clone()), u, rtol=0, atol=INVERSE)
    expected = [torch.linalg.slogdet(jacobian(lambda x: free(transform(x)).flatten(), row))[1] for row in u]
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, value), torch.stack(expected), rtol=0, atol=INVERSE)


def test_packed_sites_lie_side_by_side():
    sites = [LocalSite(name.replace(" ", "_"), shape, support) for name, (support, shape, _, _) in SUPPORTS.items()]
    transform = PackedTransform(sites)
    u = torch.randn(7, 5, sum(site.size for site in sites), dtype=torch.float64)
    packed = transform(u)
    assert transform.inv(packed) is u
    torch.testing.assert_close(PackedTransform(sites).inv(packed.clone()), u, rtol=0, atol=INVERSE)
    assert transform.forward_shape(u.shape) == packed.shape
    assert transform.inverse_shape(packed.shape) == u.shape
    total = 0
    parts = u.split([site.size for site in sites], -1)
    for site, part, value in zip(sites, parts, transform.split(packed), strict=True):
        assert torch.equal(site.transform()(part), value)
        total = total + site.transform().log_abs_det_jacobian(part, value)
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, packed), total, rtol=0, atol=INVERSE)


def test_triangular_transform_is_a_value():
    transform = LowerTriangularTransform()
    assert transform == LowerTriangularTransform()
    assert transform.with_cache(0) is transform
    assert transform.with_cache(1)._cache_size == 1
    with pytest.raises(ValueError, match=r"4 is not n\(n\+1\)/2"):
        transform(torch.zeros(4))


def test_sites_that_no_flow_fits_are_told_apart():
    with pytest.raises(InvalidInputError, match=r"site 'k'.*discrete support.*TraceEnum_ELBO.*hide=\['k'\]"):
        LocalSite("k", (), constraints.integer_interval(0, 3))
    with pytest.raises(InvalidInputError, match=r"site 'w' event_shape: .*Simplex.*got \(\): at least 1"):
        LocalSite("w", (), constraints.simplex)
    with pytest.raises(InvalidInputError, match=r"site 'w' support.*Sphere.*\(3,\).*poutine.reparam"):
        LocalSite("w", (3,), constraints.sphere)
    with pytest.raises(InvalidInputError, match=r"site 'w' event_shape.*\(2, 3\).*square"):
        LocalSite("w", (2, 3), constraints.lower_cholesky)
