from __future__ import annotations

import inspect

import pytest
import torch

from vae_flows import evaluation
from vae_flows.errors import InvalidInputError
from vae_flows.randomness import derive_seed, seeded
from vae_flows.training import TrainingSettings

SEEDED = [
    value
    for value in (TrainingSettings, *(getattr(evaluation, name) for name in evaluation.__all__))
    if callable(value) and "seed" in inspect.signature(value).parameters
]


@pytest.mark.parametrize("function", SEEDED, ids=lambda function: function.__name__)
def test_without_a_seed_results_are_those_of_seed_zero(function: object) -> None:
    assert callable(function)
    assert inspect.signature(function).parameters["seed"].default == 0


CPU = torch.device("cpu")


def test_seeds_depend_on_every_part_of_the_key():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (10,), (0, "train"), (0, "validate"), (2**40, 0)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert seeds == [derive_seed(*key) for key in keys]
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_negative_seeds_are_refused():
    for key in ((-1,), (0, -3), (-1, "train")):
        with pytest.raises(InvalidInputError, match=r"seed: expected an integer of at least 0, got -\d"):
            derive_seed(*key)


def test_the_largest_seeds_are_accepted():
    for number in range(50):
        with seeded(CPU, number):
            torch.rand(1)


def test_draws_depend_on_the_key_alone():
    def draws(*key: int) -> tuple[list[float], list[float]]:
        with seeded(CPU, *key) as generator:
            return torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist()

    first = draws(1, 2)
    torch.rand(7)
    assert draws(1, 2) == first
    assert draws(1, 3) != first
    assert first[0] != first[1]


def test_the_global_numbers_stay_as_they_were_even_after_a_failure():
    before = torch.random.get_rng_state()
    try:
        with seeded(CPU, 1):
            torch.rand(3)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.random.get_rng_state(), before)
