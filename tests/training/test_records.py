from __future__ import annotations

from dataclasses import replace

import pytest

from vae_flows.training.records import EpochRecord, TrainingResult, best_record, stops_early
from vae_flows.training.settings import TrainingSettings


def history(*validation: float, evaluations: int | None = None) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch,
            beta=1.0,
            train_negative_elbo=0.0,
            train_kl=0.0,
            validation_negative_elbo=value,
            evaluations_per_solve=None,
            forward_evaluations=evaluations,
            examples_per_second=1.0,
            seconds=2.0,
        )
        for epoch, value in enumerate(validation, 1)
    ]


def test_the_first_of_equally_good_epochs_is_the_best():
    assert best_record(history(5.0, 3.0, 4.0, 3.0)).epoch == 2


@pytest.mark.parametrize(
    ("validation", "stops"),
    [
        ((3.0, 4.0, 4.0), False),  # epoch 2 belongs to the warm-up, one epoch counts
        ((3.0, 4.0, 4.0, 4.0), True),
        ((3.0, 4.0, 4.0, 2.0), False),
        ((3.0, 4.0, 4.0, 2.0, 4.0, 4.0), True),
        ((4.0, 4.0, 4.0, 3.0, 2.0, 1.0), False),
        ((), False),
    ],
)
def test_patience_counts_the_epochs_since_the_best_one_after_the_warm_up(validation: tuple[float, ...], stops: bool):
    assert stops_early(history(*validation), TrainingSettings(warmup_epochs=3, patience=2)) is stops


def test_records_compare_by_their_numbers_not_by_time():
    (record,) = history(1.0)
    assert replace(record, seconds=9.0, examples_per_second=9.0) == record
    assert replace(record, train_kl=9.0) != record


def test_results_sum_up_the_history():
    settings = TrainingSettings(warmup_epochs=0, patience=2)
    result = TrainingResult.from_history(history(3.0, 1.0, 2.0, evaluations=7), settings)
    assert (result.best_epoch, result.best_validation_negative_elbo) == (2, 1.0)
    assert (result.stopped_early, result.seconds, result.forward_evaluations) == (False, 6.0, 21)
    result = TrainingResult.from_history(history(3.0, 4.0, 4.0), settings)
    assert (result.stopped_early, result.forward_evaluations) == (True, None)
