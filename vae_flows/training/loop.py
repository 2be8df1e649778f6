"""Training on Lightning Fabric: maximise the ELBO with Adamax, warm-up of β and early stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vae_flows.call_stack import warn
from vae_flows.checks import check_argument
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.modules import in_mode, placement
from vae_flows.persistence.files import FolderLock, checked_path, exclusive
from vae_flows.processes import Processes, launch, make_fabric
from vae_flows.randomness import seeded
from vae_flows.training.callbacks import Callback, TrainingState, check_callbacks, stop_is_asked
from vae_flows.training.description import describe_run
from vae_flows.training.epoch import EpochRunner
from vae_flows.training.folder import RunFolder, RunState
from vae_flows.training.logs import Logger, RunLogs, check_loggers
from vae_flows.training.records import EpochRecord, TrainingResult, best_record, stops_early
from vae_flows.training.settings import ComputeSettings, Precision, TrainingSettings, require_settings
from vae_flows.training.told import save_description

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from vae_flows.vae import VAE

__all__ = ["train"]

ONE_DEVICE = ComputeSettings()
DTYPES: Mapping[Precision, torch.dtype] = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}


def train(
    vae: VAE,
    data: Any,
    settings: TrainingSettings,
    *,
    folder: Path | str | None = None,
    compute: ComputeSettings = ONE_DEVICE,
    resume: bool = False,
    progress: bool = True,
    wait: float = 0.0,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> TrainingResult:
    """Train a model and leave it with the weights of its best epoch, on the device it was trained on.

    After each epoch the validation examples are scored in evaluation mode, where traces are exact, with β = 1 and with
    the same random draws in each epoch, so that two epochs differ by the weights alone. With a folder, each epoch
    writes `last.ckpt`, the model where it is the best so far, `metrics.csv` and TensorBoard events: the folder is a
    saved model, which `VAE.from_pretrained` opens.

    With several devices the process is started once for each, so call it from a script. Each process takes its share
    of every batch; one writes.

    Arguments:
        vae: The model; its initial weights are the caller's.
        data: A `DataSet`, of which the training split is fit and the validation split decides when to stop; or a tensor
            or array `(N, *event)`, or a map-style data set of torch, whose splits `as_data_set` holds out. Labels are
            left alone. Values may be whatever the likelihood has a probability for. A model without a standardisation
            takes over that of the data set, if any, and keeps it.
        settings: Optimiser, schedule and seed.
        folder: Where checkpoints and logs go, `None` for nowhere.
        compute: Device, precision and number of processes.
        resume: Continue the run in `folder`, exactly as if it had not been interrupted (bit for bit on the CPU), or
            start it there. A run that is complete returns its result.
        progress: Show bars, where the standard output is a terminal.
        wait: Seconds to wait for another process to leave `folder`.
        callbacks: What is called after each epoch, and may ask to stop; see `Callback`.
        loggers: Loggers of Lightning, told the same as those that the settings name. They stay open.

    Returns:
        The records of all epochs, those before an interruption included.

    Raises:
        CheckpointError: The folder holds a run and `resume` is not set, or one of other settings, data or model.
        InvalidInputError: An argument is of another type, Fabric cannot provide `compute`, the device lacks the
            precision, the optimiser refuses its options or the model, there are fewer examples in a batch than
            processes, or models, data or settings of the processes differ.
        NonFiniteLossError: The loss, its gradient or the validation bound is NaN or infinite. The step is not taken;
            checkpoints are those of the last whole epoch.
        IntegrationError: A solve of a continuous flow failed; a note names epoch, batch and posterior.
        ProcessError: Another process ended, or failed where it could not tell. What one raises otherwise, all raise.

    Example:
        >>> import torch
        >>> from vae_flows.data import from_arrays
        >>> from vae_flows.likelihoods import BernoulliLikelihood
        >>> from vae_flows.networks import MLPDecoder, MLPEncoder
        >>> from vae_flows.posterior import AmortizedPosterior
        >>> from vae_flows.vae import VAE
        >>> images = (torch.rand(60, 4, 4) > 0.5).numpy()
        >>> data = from_arrays(images[:40], images[40:50], images[50:])
        >>> encoder, decoder = MLPEncoder((1, 4, 4), (8,), context_dim=6), MLPDecoder(2, (1, 4, 4), (8,))
        >>> vae = VAE(encoder, decoder, AmortizedPosterior(2, 6, flow="planar"), BernoulliLikelihood())
        >>> settings = TrainingSettings(max_epochs=2, batch_size=20, warmup_epochs=2)
        >>> result = train(vae, data, settings, compute=ComputeSettings("cpu"))
        >>> [record.epoch for record in result.history]
        [1, 2]
    """
    # Imported here: models bring Pyro, and data sets their readers, which a caller of this has already.
    from vae_flows.data import as_data_set
    from vae_flows.vae import VAE

    check_argument("train vae", vae, VAE)
    data = as_data_set(data)
    if data.standardization is not None and vae.standardization is None:
        vae.standardize(deepcopy(data.standardization).to(*placement(vae)))
    check_argument("train progress", progress, bool)
    require_settings("settings", settings, TrainingSettings)
    require_settings("compute", compute, ComputeSettings)
    callbacks, loggers = check_callbacks(callbacks), check_loggers(loggers)
    path = None if folder is None else checked_path(folder, "folder of train")
    _warn_of_a_long_warmup(settings)
    fabric = _launch(compute)
    processes = Processes(fabric.global_rank, fabric.world_size)
    with ExitStack() as stack:
        lock: FolderLock | None = None
        if path:
            # What one process raises, all raise, here and below: else the others would wait for it.
            lock = processes.each(
                lambda: stack.enter_context(exclusive(path, wait=wait, again=True)) if processes.is_first else None
            )
        runner = EpochRunner(fabric, vae, data, settings)
        described = partial(describe_run, vae, data, settings, compute, processes.count)
        description, _ = processes.agreed("train", lambda: (described(), settings.max_epochs))
        state, kept = RunState(), None
        if path:
            kept = RunFolder(path, description, lock)
            state = processes.each(partial(kept.open, vae, runner, max_epochs=settings.max_epochs, resume=resume))
            processes.each(lambda: save_description(path, vae, data, settings, compute) if lock else None)
        if not _is_complete(state, settings):

            def opened() -> RunLogs | None:
                if not processes.is_first:
                    return None
                logs = stack.enter_context(RunLogs(path, len(state.history), settings.loggers, loggers))
                logs.begin({"max_epochs": settings.max_epochs, **description})
                return logs

            logs = processes.each(opened)
            state = _continue(runner, state, kept, logs, callbacks, show=progress and processes.is_first)
        # Those of the first process, which are kept: buffers, such as averages over batches, differ among processes.
        vae.load_state_dict(fabric.broadcast(state.best_weights))
        fabric.barrier()
    return TrainingResult.from_history(state.history, settings)


def _launch(compute: ComputeSettings) -> Fabric:
    if compute.precision in ("bf16-true", "16-true"):
        warn(
            f"Training with precision {compute.precision!r} computes log q, and with it the bound, in 16 bits, which "
            f"have two to three digits; {compute.precision.replace('true', 'mixed')!r} keeps densities in 32."
        )
    fabric = make_fabric("ComputeSettings", **asdict(compute))
    _check_precision(fabric, compute)
    launch(fabric)
    return fabric


def _check_precision(fabric: Fabric, compute: ComputeSettings) -> None:
    """Refuse a precision in which the device does not compute."""
    device, dtype = fabric.device, DTYPES[compute.precision]
    lacking = fabric.strategy.precision.precision != compute.precision  # Fabric took another one
    if device.type == "cuda" and dtype == torch.bfloat16:
        lacking |= not torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        torch.ones(2, 2, dtype=dtype, device=device).mm(torch.ones(2, 2, dtype=dtype, device=device))
    except (TypeError, RuntimeError):  # such as double precision on Apple's GPUs
        lacking = True
    if lacking:
        expected, remedy = f"one that {device.type} computes in", "32-true is known everywhere."
        raise InvalidInputError(complaint("ComputeSettings precision", expected, repr(compute.precision), remedy))


def _warn_of_a_long_warmup(settings: TrainingSettings) -> None:
    if settings.warmup_epochs > settings.max_epochs:
        warn(
            f"The warm-up of β takes {settings.warmup_epochs} epochs, and training at most {settings.max_epochs}: it "
            f"ends at β = {settings.beta(settings.max_epochs):.3g}. Set warmup_epochs, or train for longer."
        )


def _is_complete(state: RunState, settings: TrainingSettings) -> bool:
    return len(state.history) >= settings.max_epochs or stops_early(state.history, settings)


def _continue(
    runner: EpochRunner,
    state: RunState,
    kept: RunFolder | None,
    logs: RunLogs | None,
    callbacks: Sequence[Callback],
    *,
    show: bool,
) -> RunState:
    """Train epoch by epoch until the run is complete, logging and saving each."""
    # Imported here, as what they show and write with takes long to import, and need not be installed to load a run.
    from vae_flows.training.progress import TrainingProgress

    settings = runner.settings
    with ExitStack() as stack:
        bars = stack.enter_context(TrainingProgress(settings.max_epochs, len(state.history), show=show))
        stopped = False
        while not (stopped or _is_complete(state, settings)):
            record = runner.run(len(state.history) + 1, bars)
            history = (*state.history, record)
            best = best_record(history)
            state = RunState(history, _copied(runner.weights()) if best is record else state.best_weights)
            runner.processes.each(partial(_keep, runner, state, kept, logs))
            bars.end_epoch(record, best)
            if callbacks:
                stopped = bool(runner.processes.by_first(partial(_call, callbacks, runner, history, kept)))
    return state


def _keep(runner: EpochRunner, state: RunState, kept: RunFolder | None, logs: RunLogs | None) -> None:
    if kept:
        kept.require()
    if logs:
        logs.write(state.history)
    if kept:
        kept.save(runner, state)


def _call(
    callbacks: Sequence[Callback], runner: EpochRunner, history: tuple[EpochRecord, ...], kept: RunFolder | None
) -> bool:
    """Call what the user wants called after an epoch, and say whether to stop."""
    record, path = history[-1], kept.path if kept else None
    state = TrainingState(record.epoch, record, history, best_record(history), runner.vae, path, runner.settings)
    with (
        runner.averaged(),
        in_mode(runner.vae, training=False),
        seeded(runner.fabric.device, runner.settings.seed, record.epoch, "callbacks"),
    ):
        return stop_is_asked(callbacks, state)


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
