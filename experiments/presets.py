"""Named sets of runs: which posteriors on which data, how large and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.settings import CellSettings, EvaluationSettings, NetworkSettings
from vae_flows.errors import unknown_name
from vae_flows.training import ComputeSettings, TrainingSettings

__all__ = ["POSTERIORS", "PRESETS", "Preset", "find_preset"]

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
FREY_SPLIT_SEEDS = (123, 321, 231)
FREY_VARIANCE_BOUNDS = (0.01, 7.0)
# The literature starts its discrete flows where PyTorch's linear layers do, not near the identity.
PUBLISHED_START = {name: {"initialization": "published"} for name in POSTERIORS if name not in ("none", "ffjord")}
# Near the identity, Sylvester flows learn more slowly, which few steps do not make up for.
PUBLISHED_SYLVESTER = {name: start for name, start in PUBLISHED_START.items() if name.startswith("sylvester")}
SMALL_FFJORD = {"amortization": "bias", "num_blocks": 1, "activation": "softplus"}


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
    max_images: int | None = None

    def cell(self, data: str, posterior: str, seed: int, compute: ComputeSettings | None = None) -> CellSettings:
        """Return the settings of one run.

        Example:
            >>> PRESETS["paper"].cell("frey-faces", "ffjord", 1).split_seed
            321
        """
        options = {**self.flow_options.get(posterior, {}), **self.flow_options_on.get(data, {}).get(posterior, {})}
        is_frey = data == FREY
        return CellSettings(
            data=data,
            posterior=posterior,
            posterior_options=options,
            latent_dim=self.latent_dim,
            variance_bounds=FREY_VARIANCE_BOUNDS if is_frey else None,
            network=self.network_on.get(data, self.network),
            training=replace(self.training, seed=seed, **self.training_on.get(data, {})),
            compute=compute or ComputeSettings(),
            evaluation=self.evaluation,
            split_seed=FREY_SPLIT_SEEDS[seed % len(FREY_SPLIT_SEEDS)] if is_frey else None,
            max_images=self.max_images,
        )


def find_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        UnknownNameError: There is none; the message lists the names.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


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
)

QUICK = Preset(
    description="All seven posteriors in ten minutes on two cores: small gated dense networks, about 1,500 steps.",
    data=(CALTECH,),
    seeds=(1, 2),  # learning rate and width were chosen on seed 0
    latent_dim=32,
    network=NetworkSettings("mlp", (300,), 128),
    training=TrainingSettings(max_epochs=36, warmup_epochs=10, patience=10, learning_rate=3e-3),
    evaluation=EvaluationSettings(importance_samples=100, chunk_size=25),
    flow_options={**PUBLISHED_SYLVESTER, "ffjord": {**SMALL_FFJORD, "hidden_dims": (256,)}},
    training_on={
        MNIST: _epochs(4, 1),
        OMNIGLOT: _epochs(9, 2),
        "omniglot-iwae": _epochs(9, 2),
        FREY: {**_epochs(40, 8), "learning_rate": 1e-2},
    },
    # 256 logits a pixel make the decoder's last layer the whole cost: a narrow input keeps it small.
    network_on={FREY: NetworkSettings("mlp", (48,), 128)},
)

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
    evaluation=EvaluationSettings(importance_samples=500, chunk_size=50),
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

PRESETS: Mapping[str, Preset] = {"smoke": SMOKE, "quick": QUICK, "paper": PAPER}
