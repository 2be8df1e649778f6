from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.programs import reports_of

ROUNDING = 1e-4  # float32 sums in another order, over some steps

SCRIPT = """
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

import vae_flows.training as training
from vae_flows.data import Images, DataSet
from vae_flows.errors import NonFiniteLossError
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder
from vae_flows.posterior import AmortizedPosterior
from vae_flows.vae import ELBO, VAE

SHAPE = (1, 4, 4)


class MeanVAE(VAE):
    "Takes the mean for a sample, so that the number of processes makes no difference."

    noisy = False
    spoiled_rank = None

    def elbo(self, x, num_particles=1, beta=1.0, gradient="reparameterized"):
        if self.noisy:
            return super().elbo(x, num_particles, beta, gradient)
        base = self.posterior.base(self.encoder(x))
        log_likelihood = self.likelihood.log_prob(self.decoder(base.mean), x)
        kl = (base.mean**2 + base.variance - base.variance.log() - 1).sum(-1) / 2
        if self.spoiled_rank is not None and torch.distributed.get_rank() == self.spoiled_rank:
            log_likelihood = log_likelihood * float("nan")
        return ELBO(log_likelihood - beta * kl, log_likelihood, kl)


def make_vae(seed=1):
    torch.manual_seed(seed)
    encoder, decoder = MLPEncoder(SHAPE, (8,), context_dim=6), MLPDecoder(2, SHAPE, (8,))
    return MeanVAE(encoder, decoder, AmortizedPosterior(2, 6, flow="none"), BernoulliLikelihood())


def main(folder, devices):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(256, (70, 2), generator=generator, dtype=torch.uint8)
    splits = (Images(part, SHAPE, packed=True) for part in levels.split([50, 13, 7]))
    data = DataSet("bits", *splits, pixels="binary", description="")
    # Batches of 15, 15, 15 and 5 images: shares of two processes differ.
    settings = training.TrainingSettings(max_epochs=4, batch_size=15, learning_rate=5e-3, warmup_epochs=3)
    options = {"compute": training.ComputeSettings("cpu", devices=devices), "progress": False}

    smooth = make_vae()
    result = training.train(smooth, data, settings, folder=folder / "smooth", **options)

    whole, resumed = make_vae(), make_vae(seed=2)
    whole.noisy = resumed.noisy = True
    expected = training.train(whole, data, settings, **options)
    first = make_vae()
    first.noisy = True
    training.train(first, data, replace(settings, max_epochs=2), folder=folder / "noisy", **options)
    continued = training.train(resumed, data, settings, folder=folder / "noisy", resume=True, **options)

    spoiled, error = make_vae(), None
    if devices > 1:
        spoiled.spoiled_rank = 1
        try:
            training.train(spoiled, data, settings, **options)
        except NonFiniteLossError as caught:
            error = str(caught)
    rank = torch.distributed.get_rank() if devices > 1 else 0
    report = {
        "history": [asdict(record) for record in result.history],
        "weights": [parameter.sum().item() for parameter in smooth.parameters()],
        "resumed exactly": continued == expected
        and all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters())),
        "error": error,
    }
    (folder / f"report-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path):
    (alone,) = reports_of(SCRIPT, tmp_path / "one", 1)
    together = reports_of(SCRIPT, tmp_path / "two", 2)
    for report in together:
        assert report["weights"] == pytest.approx(alone["weights"], rel=ROUNDING, abs=ROUNDING)
        for name in ("train_negative_elbo", "train_kl", "validation_negative_elbo", "beta"):
            values = [record[name] for record in report["history"]]
            assert values == pytest.approx([record[name] for record in alone["history"]], rel=ROUNDING)
        assert report["resumed exactly"]
        assert "loss in epoch 1, batch 1, posterior 'none': expected a finite number, got nan" in report["error"]
    names = {file.name for file in (tmp_path / "two" / "smooth").iterdir()}
    assert {"last.ckpt", "model.safetensors", "metrics.csv"} < names
    assert len([name for name in names if "events" in name]) == 1
