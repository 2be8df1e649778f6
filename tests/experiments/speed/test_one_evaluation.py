"""One evaluation of the dynamics: every method and every product is timed, and the traces are those they should be."""

import pytest
import torch

from experiments.speed.one_evaluation import METHODS, make_evaluation, make_field, time_dimension, time_products
from experiments.speed.problems import Size


@pytest.mark.parametrize("dim", [3, 5])
def test_a_dimension_has_a_point_for_each_method(dim):
    points = time_dimension(dim, (8, 8), batch=4, rounds=1)
    assert [(point.dim, point.method) for point in points] == [(dim, name) for name in METHODS]
    assert all(point.forward_seconds > 0 and point.seconds > 0 for point in points)


def test_brute_force_and_the_closed_form_are_the_same_trace():
    field, z = make_field(6, (8, 8), batch=4), torch.randn(4, 1, 6)
    evaluations = [make_evaluation(method, field, z)[0] for method in ("brute force", "closed form", "Hutchinson")]
    values, (brute, closed, estimate) = zip(*(evaluate(z) for evaluate in evaluations), strict=True)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(brute, closed)
    assert not torch.allclose(brute, estimate)


def test_products_are_compared_with_f():
    products = time_products(Size((8, 8), "bias", latent_dim=4, batch=3), rounds=3)
    assert len(products.ratios) == 3
    assert all(ratio > 0 for ratio in products.ratios.values())
