"""Two processes take the steps of one, whatever the posterior: shares of batches differ, and so do the last ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.programs import reports_of

ROUNDING = 1e-9  # float64 sums in another order, through two steps

SCRIPT = """
import json
import sys
from pathlib import Path

import torch

import vae_flows as vf
import vae_flows.training as training
from vae_flows.data import DataSet, Images
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.vae import ELBO, VAE

SHAPE = (1, 4, 4)
FIXED = vf.ODESolver(method="rk4", options={"step_size": 0.1})  # adaptive steps are chosen for a process's own images
FFJORD = {"hidden_dims": (6,), "solver": FIXED, "divergence": "brute_force"}  # Hutchinson's noise is each one's own
POSTERIORS = {
    "none": ("none", {}),
    "planar": ("planar", {"num_layers": 2}),
    "iaf": ("iaf", {"num_layers": 2, "hidden_dim": 8}),
    "sylvester-orthogonal": ("sylvester-orthogonal", {"num_layers": 2, "num_orthogonal": 2}),
    "sylvester-householder": ("sylvester-householder", {"num_layers": 2, "num_reflections": 2}),
    "sylvester-triangular": ("sylvester-triangular", {"num_layers": 2}),
    "ffjord": ("ffjord", {**FFJORD, "rank": 2}),
    "ffjord of biases": ("ffjord", {**FFJORD, "amortization": "bias"}),
    "ffjord, recompute": (
        "ffjord", {**FFJORD, "rank": 2, "solver": vf.ODESolver("rk4", gradient="recompute", options={"step_size": 0.1})}
    ),
}


class OwnNoiseVAE(VAE):
    "Draws by noise that belongs to the image, so that the number of processes makes no difference."

    def elbo(self, x, num_particles=1, beta=1.0, gradient="reparameterized"):
        context = self.encoder(x)
        base, transform = self.posterior.base(context), self.posterior.flow.condition(context)
        noise = torch.sin(x.flatten(1) @ torch.arange(1.0, 33.0, dtype=x.dtype).reshape(16, 2))
        start = base.mean + base.stddev * noise
        z, log_det = transform.forward_with_log_det(start)
        log_likelihood = self.log_likelihood(x, z)
        kl = base.log_prob(start) - log_det - self.log_prior(z)
        return ELBO(log_likelihood - beta * kl, log_likelihood, kl)


def train(name, options, devices):
    torch.manual_seed(1)
    encoder, decoder = MLPEncoder(SHAPE, (8,), context_dim=6), MLPDecoder(2, SHAPE, (8,))
    posterior = vf.AmortizedPosterior(2, 6, flow=name, **options)
    vae = OwnNoiseVAE(encoder, decoder, posterior, BernoulliLikelihood()).double()
    before = [parameter.detach().clone() for parameter in vae.parameters()]
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(256, (66, 2), generator=generator, dtype=torch.uint8)
    splits = (Images(part, SHAPE, packed=True) for part in levels.split([46, 13, 7]))
    data = DataSet("bits", *splits, pixels="binary", description="")
    # Steps of 15 + 15 and of 15 + 1 images, of which two processes have 8 + 8 and 7 + 7, and 8 + 1 and 7 + 0.
    settings = training.TrainingSettings(
        max_epochs=1, batch_size=15, accumulate_batches=2, optimizer="SGD", learning_rate=0.1, warmup_epochs=0
    )
    compute = training.ComputeSettings("cpu", devices=devices, precision="64-true")
    result = training.train(vae, data, settings, compute=compute, progress=False)
    moved = [(after.detach() - start).flatten() for after, start in zip(vae.parameters(), before, strict=True)]
    return {
        "moved": torch.cat(moved).tolist(),
        "validation": result.history[-1].validation_negative_elbo,
        "train": result.history[-1].train_negative_elbo,
    }


if __name__ == "__main__":
    devices = int(sys.argv[2])
    report = {label: train(name, options, devices) for label, (name, options) in POSTERIORS.items()}
    rank = torch.distributed.get_rank() if devices > 1 else 0
    Path(sys.argv[1], f"report-{rank}.json").write_text(json.dumps(report))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path):
    (alone,) = reports_of(SCRIPT, tmp_path / "one", 1)
    together = reports_of(SCRIPT, tmp_path / "two", 2)
    for report in together:
        assert set(report) == set(alone)
        for posterior, expected in alone.items():
            for name, values in report[posterior].items():
                close = pytest.approx(expected[name], rel=ROUNDING, abs=ROUNDING)
                assert values == close, f"{posterior}, {name}"
            assert max(map(abs, expected["moved"])) > 1e-3, posterior
