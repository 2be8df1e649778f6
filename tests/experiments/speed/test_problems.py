"""Problems are the same every time, and their multiply-adds are those that the library makes."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.speed.competitors.this_library import ThisLibrary
from experiments.speed.problems import SIZES, TINY_CONCAT, TINY_LOW_RANK, Size, make_problem

LARGE_ENOUGH = {"latent_dim": 32, "context_dim": 16, "batch": 10, "spread": 0.5}


def test_names_of_sizes_differ():
    sizes = (*SIZES, TINY_LOW_RANK, TINY_CONCAT)
    assert len({size.name for size in sizes}) == len(sizes)


@pytest.mark.parametrize("size", [TINY_LOW_RANK, TINY_CONCAT], ids=lambda size: size.name)
def test_a_problem_is_the_same_every_time_and_not_trivial(size):
    state = torch.get_rng_state()
    first, second = make_problem(size), make_problem(size)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("context", "start", "probes", "of_end", "of_log_det"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    ours, theirs = first.weights(), second.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {name.split()[0] for name in ours} == {"shared", "head"}
    assert first.blocks()[0].head.weight.std() > 0
    assert first.double().start.dtype == torch.float64


def flops_in_place(total, left, right, **_):
    """Two for each multiply-add of `left (N, R, in)` and `right (N, in, out)`."""
    return 2 * math.prod(left) * right[-1]


@pytest.mark.parametrize(
    "size",
    [
        Size((48, 48), "low_rank", rank=4, num_blocks=2, **LARGE_ENOUGH),
        Size((96,), "low_rank", rank=4, **LARGE_ENOUGH),
        Size((48, 64), "bias", **LARGE_ENOUGH),
    ],
    ids=lambda size: size.name,
)
def test_multiply_adds_are_a_floor_that_automatic_differentiation_comes_close_to(size):
    # PyTorch's counter knows the products of automatic differentiation, but none in place; where the first step is
    # guessed, nothing is differentiated.
    competitor = ThisLibrary(make_problem(size), fused=False)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: flops_in_place}) as counter:
        competitor.step()
    needed = competitor.multiply_adds()
    assert needed <= counter.get_total_flops() / 2 <= 1.02 * needed
