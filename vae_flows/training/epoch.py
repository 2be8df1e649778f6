"""One epoch: a pass over the training examples, then the bound on the validation examples.

Every random draw depends on the seed, the epoch and the process alone, never on what was drawn before: the order of the
examples, dynamic binarisation, the samples of the posterior and the noise of trace estimates. That is why a run which
was interrupted continues with the same numbers, and why the global random numbers of the caller stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from vae_flows.errors import InvalidInputError, NonFiniteLossError, complaint
from vae_flows.evaluation.bounds import score
from vae_flows.modules import in_mode, placement
from vae_flows.processes import Processes
from vae_flows.protocols import name_of
from vae_flows.randomness import derive_seed, seeded
from vae_flows.training.averaging import WeightAverage
from vae_flows.training.entries import checked_average, checked_mapping, checked_optimizer, checked_precision
from vae_flows.training.optimizers import make_optimizer, restore_optimizer
from vae_flows.training.records import EpochRecord, History
from vae_flows.training.settings import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from vae_flows.data import DataSet
    from vae_flows.training.progress import TrainingProgress
    from vae_flows.vae import VAE

__all__ = ["EpochRunner"]

Found = TypeVar("Found")


class _Sums:
    """Sums over examples of loss, log-likelihood and KL term, and the evaluations of the solves.

    Of a class that Fabric does not look into: it would turn double precision into single.
    """

    def __init__(self, terms: Tensor, evaluations: int | None) -> None:
        self.terms = terms
        self.evaluations = evaluations


class _Objective(nn.Module):
    """The loss as the forward pass of one module, which is what data-parallel training synchronises."""

    def __init__(self, vae: VAE, settings: TrainingSettings) -> None:
        super().__init__()
        self.vae = vae
        self.settings = settings
        self.objective = settings.make_objective()

    def forward(self, x: Tensor, beta: float) -> _Sums:
        settings = self.settings
        terms = self.objective.terms(self.vae, x, settings.num_particles, beta, settings.gradient)
        evaluations = None if terms.work is None else terms.work.forward_evaluations
        columns = torch.stack([-terms.objective, terms.log_likelihood, terms.kl])
        return _Sums(columns.sum(-1, dtype=torch.promote_types(columns.dtype, torch.float32)), evaluations)


class _Batch(NamedTuple):
    """Examples of all processes, and their part in a step.

    A process that has no share in them computes with one of them all the same, which does not count: data-parallel
    training waits for the gradients of all processes.
    """

    examples: Tensor
    examples_of_step: int
    begins_step: bool
    ends_step: bool


@dataclass
class _Totals:
    """Sums over the steps of an epoch, of all processes."""

    examples: int = 0
    loss: float = 0.0
    log_likelihood: float = 0.0
    kl: float = 0.0
    evaluations: int = 0
    solves: int = 0


class EpochRunner:
    """A model, its data and its optimiser on the devices of a Fabric, which trains and validates an epoch at a time.

    Arguments:
        fabric: A launched Fabric.
        vae: The model, moved to the Fabric's device.
        data: Examples to fit, and to validate with.
        settings: Optimiser, schedule and seed.

    Raises:
        InvalidInputError: There are fewer examples in a batch than processes.
    """

    def __init__(self, fabric: Fabric, vae: VAE, data: DataSet, settings: TrainingSettings) -> None:
        processes = Processes(fabric.global_rank, fabric.world_size)
        if settings.batch_size < processes.count:
            expected = f"at least one example for each of {processes.count} processes"
            raise InvalidInputError(complaint("batch_size of the training", expected, settings.batch_size))
        self.fabric = fabric
        self.processes = processes
        self.vae = vae
        self.settings = settings
        # 16-bit precision scales the loss until gradients overflow, and leaves such steps out itself.
        self.scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
        self.parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
        self.schedule = settings.start_schedule()
        options = settings.resolved_optimizer_options()
        self.optimizer = make_optimizer(settings.optimizer, self.parameters, self.schedule.rate, options)
        self.module, self.stepper = fabric.setup(_Objective(vae, settings), self.optimizer)
        self.average = None if settings.ema_decay is None else WeightAverage(vae, settings.ema_decay)
        self._has_gradients = False
        self._trained: tuple[int, Mapping[str, Tensor]] | None = None
        self.train_examples = data.train.to(fabric.device)
        self.validation_examples = data.validation.to(fabric.device)

    def state_dict(self) -> dict[str, Any]:
        """Return what, beside the model's weights, decides how training goes on."""
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = self._without_steps() | optimizer["state"]
        average = {} if self.average is None else {"average": self.average.state_dict()}
        return {"optimizer": optimizer, "precision": self.fabric.strategy.precision.state_dict(), **average}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are validated, which are the averaged ones where there is an average."""
        with self.averaged():
            return self.vae.state_dict()

    def averaged(self) -> AbstractContextManager[None]:
        """Let the model have the weights that are validated for a block."""
        return nullcontext() if self.average is None else self.average.applied()

    def load_state_dict(self, value: object, history: History, path: Path, *, complete: bool = True) -> None:
        """Go on from what `state_dict` returned.

        Arguments:
            value: The state, as a checkpoint holds it.
            history: The records of the epochs until there, from which the learning rate follows.
            path: The checkpoint.
            complete: Whether each parameter has an entry, which older checkpoints leave out for those without a step.

        Raises:
            CheckpointError: It is not the state of this optimiser.
        """
        for record in history:
            self._advance(record)
        precision = self.fabric.strategy.precision
        state = checked_mapping(value, "runner", path, "optimizer", "precision")
        stored = state["optimizer"]
        if not complete and isinstance(stored, dict) and isinstance(stored.get("state"), dict):
            stored = {**stored, "state": self._without_steps() | stored["state"]}
        optimizer = checked_optimizer(stored, self.optimizer, path)
        scaling = checked_precision(state["precision"], precision.state_dict(), path)
        if self.average is not None:
            named = checked_mapping(state, "runner", path, "average")
            self._trained = checked_average(named["average"], self.average.trained, path)
        restore_optimizer(self.optimizer, optimizer)
        precision.load_state_dict(scaling)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from the weights that were validated, after `load_state_dict`."""
        self.vae.load_state_dict(weights)
        if self.average is not None and self._trained is not None:
            self.average.load(*self._trained)

    def _advance(self, record: EpochRecord) -> None:
        """Give the optimiser the learning rate of the epoch that follows a record."""
        self.schedule.advance(record.validation_negative_elbo)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate

    def _without_steps(self) -> dict[int, dict[str, Tensor]]:
        return {number: {} for number in range(len(self.parameters))}

    def run(self, epoch: int, bars: TrainingProgress) -> EpochRecord:
        """Train for one epoch, counted from 1, and validate.

        Raises:
            NonFiniteLossError: The loss, its gradient or the validation bound is NaN or infinite.
            IntegrationError: A solve of a continuous flow failed. A note on this and any other failure names epoch,
                batch, posterior and learning rate.
        """
        started, rate = perf_counter(), self.schedule.rate
        beta = self.settings.beta(epoch)
        totals = self._train(epoch, beta, bars)
        trained = perf_counter()
        record = EpochRecord(
            epoch=epoch,
            beta=beta,
            train_negative_elbo=(totals.kl - totals.log_likelihood) / totals.examples,
            train_kl=totals.kl / totals.examples,
            validation_negative_elbo=self._validate(epoch),
            evaluations_per_solve=totals.evaluations / totals.solves if totals.solves else None,
            forward_evaluations=totals.evaluations if totals.solves else None,
            examples_per_second=totals.examples / (trained - started),
            seconds=perf_counter() - started,
            learning_rate=rate,
            train_loss=totals.loss / totals.examples,
        )
        self._advance(record)
        return record

    def _train(self, epoch: int, beta: float, bars: TrainingProgress) -> _Totals:
        fabric, seed, rank = self.fabric, self.settings.seed, self.processes.rank
        dtype = placement(self.vae)[1]
        batches = self._batches(epoch)
        totals, started = _Totals(), perf_counter()
        bars.start_epoch(len(batches))
        with in_mode(self.vae, training=True), seeded(fabric.device, seed, epoch, rank, "train") as generator:
            own = [self._share(batch) for batch in batches]
            read = iter(self.train_examples.batches(own, generator=generator, dtype=dtype))
            for number, batch in enumerate(batches, 1):
                with self._located(f"epoch {epoch}, batch {number}") as place:
                    (loss, log_likelihood, kl), evaluations = self._step(read, beta, batch, place)
                count = len(batch.examples)
                totals.examples += count
                totals.loss += loss
                totals.log_likelihood += log_likelihood
                totals.kl += kl
                if evaluations is not None:
                    totals.evaluations += evaluations
                    totals.solves += 1
                bars.step(
                    (kl - log_likelihood) / count,
                    kl / count,
                    evaluations,
                    totals.examples / (perf_counter() - started),
                )
        evaluations, solves = self._summed([totals.evaluations, totals.solves])
        totals.evaluations, totals.solves = round(evaluations), round(solves)
        return totals

    def _share(self, batch: _Batch) -> Tensor:
        """Return the examples of this process, or one that does not count where it has none."""
        own = batch.examples[self.processes.rank :: self.processes.count]
        return own if len(own) else batch.examples[:1]

    def _step(
        self, read: Iterator[Tensor], beta: float, batch: _Batch, place: str
    ) -> tuple[Sequence[float], int | None]:
        """Take a step with the examples that come next, or one batch's part of it.

        The loss is checked before the gradient is computed, the gradient before it is applied.

        Returns:
            The sums of the batch, over all processes, and the evaluations of its solve.
        """
        if batch.begins_step:
            self.stepper.zero_grad()
        counts = self.processes.rank < len(batch.examples)

        def forward() -> tuple[list[float], tuple[Tensor, int | None]]:
            sums = self.module(next(read), beta)
            loss = sums.terms[0]
            return (sums.terms if counts else torch.zeros(3)).tolist(), (
                loss if counts else 0.0 * loss,
                sums.evaluations,
            )

        with nullcontext() if batch.ends_step else self._without_exchange():
            totals, (loss, evaluations) = self._together(forward, 3)
            self._require_finite("loss", totals[0] / len(batch.examples), place)
            with self.processes.exchange():
                # Fabric averages gradients over processes.
                self.fabric.backward(loss * (self.processes.count / batch.examples_of_step))
        if batch.ends_step:
            self._require_gradients()
            self._require_finite("gradient norm", self._limit_gradient(), place)
            self.stepper.step()
            if self.average is not None:
                self.average.update()
        return totals, evaluations if counts else None

    def _together(self, work: Callable[[], tuple[Sequence[float], Found]], count: int) -> tuple[Sequence[float], Found]:
        """Add `count` numbers up over processes that come of work in each; what one raises, all raise."""
        if self.processes.count == 1:
            return work()
        error: Exception | None = None
        values, found = [0.0] * count, None
        try:
            values, found = work()
        except Exception as caught:
            error = caught
        failures, *totals = self._summed([0.0 if error is None else 1.0, *values])
        if failures:

            def fail() -> None:
                if error is not None:
                    raise error

            self.processes.together(fail)
        return totals, cast(Found, found)

    def _require_gradients(self) -> None:
        """Refuse parameters that the objective does not depend on where processes exchange gradients.

        Their exchange waits for every gradient.
        """
        if self.processes.count == 1 or self._has_gradients:
            return
        lacking = [name for name, one in self.vae.named_parameters() if one.requires_grad and one.grad is None]
        if lacking:
            expected, remedy = "a gradient of every parameter", "Call requires_grad_(False) on them, or use devices=1."
            got = f"none of {', '.join(lacking)}"
            raise InvalidInputError(complaint("training in several processes", expected, got, remedy))
        self._has_gradients = True

    def _without_exchange(self) -> AbstractContextManager[None]:
        """Leave gradients to each process until the batch that ends a step."""
        return self.fabric.no_backward_sync(self.module) if self.processes.count > 1 else nullcontext()

    def _limit_gradient(self) -> float:
        """Cut the gradient to the longest allowed and return its norm before that."""
        longest = self.settings.max_gradient_norm
        if longest is None:
            norm = get_total_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        else:
            norm = self.fabric.clip_gradients(self.module, self.stepper, max_norm=longest, error_if_nonfinite=False)
        return 0.0 if self.scaled else cast(Tensor, norm).item()

    def _validate(self, epoch: int) -> float:
        fabric, examples, rank = self.fabric, self.validation_examples, self.processes.rank
        self._share_buffers()
        with (
            in_mode(self.vae, training=False),
            self.averaged(),
            seeded(fabric.device, self.settings.seed, rank, "validate") as generator,
            fabric.autocast(),
            self._located(f"epoch {epoch}, validation") as place,
        ):
            share = torch.arange(len(examples))[rank :: self.processes.count]

            def scored() -> tuple[list[float], None]:
                size = self.settings.evaluation_batch_size
                scores = score(self.vae, examples, share, batch_size=size, generator=generator)
                return [(scores.kl - scores.log_likelihood).sum().item()], None

            (total,), _ = self._together(scored, 1)
            self._require_finite("negative ELBO", total / len(examples), place)
        return total / len(examples)

    def _share_buffers(self) -> None:
        """Give all processes the buffers of the first one, which are kept: averages over batches differ among them."""
        if self.processes.count > 1:
            with torch.no_grad():
                for buffer in self.vae.buffers():
                    buffer.copy_(cast(Tensor, self.fabric.broadcast(buffer.detach())))

    def _batches(self, epoch: int) -> Sequence[_Batch]:
        """Return the batches of an epoch, in an order that the seed and the epoch decide."""
        generator = torch.Generator().manual_seed(derive_seed(self.settings.seed, epoch, "order"))
        order = torch.randperm(len(self.train_examples), generator=generator).to(self.fabric.device)
        batches = order.split(self.settings.batch_size)
        size = self.settings.accumulate_batches
        steps = [batches[start : start + size] for start in range(0, len(batches), size)]
        return [
            _Batch(batch, sum(map(len, step)), begins_step=place == 0, ends_step=place == len(step) - 1)
            for step in steps
            for place, batch in enumerate(step)
        ]

    def _summed(self, values: Sequence[float]) -> Sequence[float]:
        """Add numbers up over processes."""
        if self.processes.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.fabric.device)
        with self.processes.exchange():
            return cast(Tensor, self.fabric.all_reduce(total, reduce_op="sum")).tolist()

    def _require_finite(self, quantity: str, value: float, place: str) -> None:
        if not math.isfinite(value):
            remedy = (
                f"Lower the learning rate ({self.schedule.rate}), or set max_gradient_norm. Checkpoints are "
                "those of the last whole epoch."
            )
            raise NonFiniteLossError(complaint(f"{quantity} in {place}", "a finite number", value, remedy))

    @contextmanager
    def _located(self, place: str) -> Iterator[str]:
        """Yield the place, with the posterior's name, and note it on any failure, with the learning rate."""
        place = f"{place}, posterior {name_of(self.vae.posterior)!r}"
        try:
            yield place
        except Exception as error:
            error.add_note(f"In training, {place}, learning rate {self.schedule.rate}.")
            raise
