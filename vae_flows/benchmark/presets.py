"""Named sets of runs: which posteriors on which data, how large and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, unknown_name
from vae_flows.runs.settings import EvaluationSettings, NetworkSettings, RunSettings
from vae_flows.training import ComputeSettings, TrainingSettings

__all__ = ["POSTERIORS", "PRESETS", "Preset", "find_preset", "register_preset"]

POSTERIORS = (
    "none",
    "planar",
    "iaf",
    "sylvester-orthogonal",
    "sylvester-householder",
    "sylvester-triangular",
    "ffjord",
)
CALTECH, MNIST, FREY, OMNIGLOT = "caltech101-silhouettes", "mnist-static", "frey-faces", "omniglot"
# On Frey Faces the benchmark draws the split anew for each of its three runs, and bounds the variance of the Gaussian.
FREY_SPLIT_SEEDS: Mapping[str, tuple[int, ...]] = {FREY: (123, 321, 231)}
FREY_VARIANCE_BOUNDS: Mapping[str, tuple[float, float]] = {FREY: (0.01, 7.0)}
# The literature starts its discrete flows where PyTorch's linear layers do, not near the identity.
PUBLISHED_START = {name: {"initialization": "published"} for name in POSTERIORS if name not in ("none", "ffjord")}
SMALL_FFJORD = {"amortization": "bias", "num_blocks": 1, "activation": "softplus"}


@checked
@dataclass(frozen=True)
class Preset:
    """A named grid of runs, posteriors × data sets × seeds, and the settings of each.

    Arguments:
        description: What it is for, in a sentence.
        data: Data sets that it covers when none are named; any other can be asked of it.
        seeds: Seeds.
        latent_dim: Size of the latent vectors.
        network: Encoder and decoder.
        training: Training.
        evaluation: The test.
        posteriors: Posteriors.
        flow_options: Options by posterior.
        flow_options_on: Further options by posterior, by data set.
        training_on: Fields of the training that differ, by data set.
        network_on: Networks that differ, by data set.
        variance_bounds_on: Bounds of the base Gaussian's variance, by data set.
        split_seeds_on: Seeds of the split, one after the other with the seeds of the runs, by data set.
        max_images: Use only that many images of each split.
    """

    description: str
    data: tuple[str, ...]
    seeds: tuple[int, ...]
    latent_dim: int
    network: NetworkSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    posteriors: tuple[str, ...] = POSTERIORS
    flow_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    flow_options_on: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    training_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network_on: Mapping[str, NetworkSettings] = field(default_factory=dict)
    variance_bounds_on: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    split_seeds_on: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    max_images: int | None = None

    @checked
    def settings(self, data: str, posterior: str, seed: int, compute: ComputeSettings | None = None) -> RunSettings:
        """Return the settings of one run.

        Example:
            >>> PRESETS["quick"].settings("frey-faces", "ffjord", 1).split_seed
            321
        """
        options = {**self.flow_options.get(posterior, {}), **self.flow_options_on.get(data, {}).get(posterior, {})}
        split_seeds = self.split_seeds_on.get(data)
        return RunSettings(
            data=data,
            posterior=posterior,
            posterior_options=options,
            latent_dim=self.latent_dim,
            variance_bounds=self.variance_bounds_on.get(data),
            network=self.network_on.get(data, self.network),
            training=replace(self.training, seed=seed, **self.training_on.get(data, {})),
            compute=compute or ComputeSettings(),
            evaluation=self.evaluation,
            split_seed=split_seeds[seed % len(split_seeds)] if split_seeds else None,
            max_images=self.max_images,
        )


@checked
def find_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        UnknownNameError: There is none; the message lists the names.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


@checked
def register_preset(name: str, preset: Preset) -> None:
    """Make a preset known by a name.

    Raises:
        InvalidInputError: Another one has that name.
    """
    if PRESETS.setdefault(name, preset) is not preset:
        raise InvalidInputError(complaint(f"preset {name!r}", "a name that is free", "that of another preset"))


def _epochs(count: int, warmup: int, patience: int = 10) -> dict[str, int]:
    return {"max_epochs": count, "warmup_epochs": warmup, "patience": patience}


SMOKE = Preset(
    description="Everything once, in seconds: shows that the parts fit together, measures nothing.",
    data=(CALTECH,),
    seeds=(0,),
    latent_dim=4,
    network=NetworkSettings("mlp", (16,), 16),
    training=TrainingSettings(max_epochs=2, batch_size=100, warmup_epochs=1, patience=2),
    evaluation=EvaluationSettings(importance_samples=4),
    flow_options={"ffjord": {**SMALL_FFJORD, "hidden_dims": (16,)}},
    max_images=300,
    split_seeds_on=FREY_SPLIT_SEEDS,
    variance_bounds_on=FREY_VARIANCE_BOUNDS,
)

QUICK = Preset(
    description="All seven posteriors in ten minutes on two cores: small gated dense networks, about 1,500 steps.",
    data=(CALTECH,),
    seeds=(1, 2),  # learning rate and width were chosen on seed 0
    latent_dim=32,
    network=NetworkSettings("mlp", (300,), 128),
    training=TrainingSettings(max_epochs=36, warmup_epochs=10, patience=10, learning_rate=3e-3),
    evaluation=EvaluationSettings(importance_samples=100, chunk_size=25, diagnostics=True),
    flow_options={"ffjord": {**SMALL_FFJORD, "hidden_dims": (256,)}},
    training_on={
        MNIST: _epochs(4, 1),
        OMNIGLOT: _epochs(9, 2),
        "omniglot-iwae": _epochs(9, 2),
        FREY: {**_epochs(40, 8), "learning_rate": 1e-2},
    },
    # 256 logits per pixel make the decoder's last layer the whole cost: a narrow input keeps it small.
    network_on={FREY: NetworkSettings("mlp", (48,), 128)},
    split_seeds_on=FREY_SPLIT_SEEDS,
    variance_bounds_on=FREY_VARIANCE_BOUNDS,
)

# About as many parameters as IAF, whose own defaults have 577,000 with these latents and features.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "zuko:NSF": {"transforms": 4, "hidden_features": (160,)},
    "zuko:NAF": {"transforms": 2, "hidden_features": (128, 128)},
    "pyro:spline_autoregressive": {"num_layers": 4, "hidden_dims": (124,)},
}

QUICK_ALL = replace(
    QUICK,
    description="The quick comparison, with spline and neural autoregressive flows of zuko and Pyro beside the seven.",
    posteriors=(*POSTERIORS, *OTHERS),
    # Diagnoses invert flows, autoregressive ones a component after the other: minutes for NAF, which is bisected.
    evaluation=replace(QUICK.evaluation, diagnostics=False),
    flow_options={**QUICK.flow_options, **OTHERS},
)

# Source: Grathwohl et al. (2019), "FFJORD", section 4.2 and appendix; van den Berg et al. (2018), "Sylvester
# Normalizing Flows for Variational Inference".
PAPER = Preset(
    description="The published benchmark: gated convolutions, 64 latents, four data sets, three seeds.",
    data=(MNIST, OMNIGLOT, FREY, CALTECH),
    seeds=(0, 1, 2),
    latent_dim=64,
    network=NetworkSettings("conv", (), 256),
    training=TrainingSettings(
        max_epochs=2000,
        batch_size=100,
        learning_rate=5e-4,
        optimizer_epsilon=1e-7,
        warmup_epochs=100,
        patience=35,
        num_particles=1,
    ),
    # The published table has no −log p(x); `evaluate --importance-samples 5000` gives it with the literature's count.
    evaluation=EvaluationSettings(importance_samples=500, chunk_size=50, diagnostics=True),
    split_seeds_on=FREY_SPLIT_SEEDS,
    variance_bounds_on=FREY_VARIANCE_BOUNDS,
    flow_options={
        **PUBLISHED_START,
        "ffjord": {
            "amortization": "low_rank",
            "hidden_dims": (512, 512),
            "num_blocks": 2,
            "activation": "softplus",
            "rank": 20,
        },
    },
    flow_options_on={
        MNIST: {"ffjord": {"hidden_dims": (1024, 1024), "rank": 64}},
        OMNIGLOT: {"ffjord": {"num_blocks": 5}},
        "omniglot-iwae": {"ffjord": {"num_blocks": 5}},
        CALTECH: {"ffjord": {"hidden_dims": (2048,), "num_blocks": 1, "activation": "tanh"}},
    },
)

PRESETS: dict[str, Preset] = {"smoke": SMOKE, "quick": QUICK, "quick-all": QUICK_ALL, "paper": PAPER}
