"""What goes wrong in one of two processes goes wrong in both, and what they train next is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.programs import reports_of
from vae_flows.persistence.files import exclusive

SCRIPT = """
import json
import sys
from pathlib import Path

import torch

import vae_flows as vf
import vae_flows.training as training
from vae_flows.data import from_arrays
from vae_flows.networks import MLPDecoder, MLPEncoder

SHAPE = (1, 4, 4)
FOLDER, DEVICES = Path(sys.argv[1]), int(sys.argv[2])
COMPUTE = training.ComputeSettings("cpu", devices=DEVICES)
rank = 0
report = {}


class FailsBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise MemoryError("in the backward pass")


class Encoder(MLPEncoder):
    "Fails when it is to, in one process; keeps a running mean, as batch normalisation does."

    fails_at, calls, fails_backwards = None, 0, False

    def __init__(self):
        super().__init__(SHAPE, (8,), context_dim=6)
        self.register_buffer("mean", torch.zeros(6))
        self.in_validation = []

    def forward(self, x):
        self.calls += 1
        out = super().forward(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
        else:
            self.in_validation.append(self.mean.tolist())
        if self.fails_at == (rank, self.calls):
            if not self.fails_backwards:
                raise MemoryError("in the forward pass")
            out = FailsBackwards.apply(out)
        return out


def made(seed=0, examples=41):
    generator = torch.Generator().manual_seed(seed)
    bits = (torch.rand(examples + 15, *SHAPE, generator=generator) > 0.5).float()
    torch.manual_seed(1)
    posterior = vf.AmortizedPosterior(2, 6, flow="planar", num_layers=2)
    vae = vf.VAE(Encoder(), MLPDecoder(2, SHAPE, (8,)), posterior, vf.likelihoods.BernoulliLikelihood())
    return vae, from_arrays(*bits.split([examples, 8, 7]))


def train(name, vae, data, folder=None, seed=0):
    settings = training.TrainingSettings(
        max_epochs=2, batch_size=20, learning_rate=5e-3, warmup_epochs=0, loggers=("csv",), seed=seed
    )
    try:
        result = training.train(vae, data, settings, folder=folder, compute=COMPUTE, progress=False)
        report[name] = [record.validation_negative_elbo for record in result.history]
    except Exception as error:
        report[name] = f"{type(error).__name__}: {error}"


def main():
    global rank
    train("first", *made())
    rank = torch.distributed.get_rank() if DEVICES > 1 else 0
    train("folder", *made(), folder=FOLDER / "in use")
    train("after the folder", *made(), seed=1)
    for call in (2, 4):  # of training, and of validation
        vae, data = made()
        vae.encoder.fails_at = (DEVICES - 1, call)
        train(f"forward {call}", vae, data)
        train(f"after forward {call}", *made(), seed=1)
    vae, data = made()
    report["mean"] = (train("mean run", vae, data), vae.encoder.in_validation)[1]
    vae, data = made()
    vae.encoder.unused = torch.nn.Linear(2, 2)
    train("unused", vae, data)
    train("one example", *made(examples=1))
    vae, data = made()
    if DEVICES > 1:
        train("other data", made()[0], made(seed=rank)[1])
        train("other numbers of data", made()[0], made(examples=41 + 20 * rank)[1])
        vae, data = made()
        vae.encoder.fails_at, vae.encoder.fails_backwards = (1, 2), True
        train("backward", vae, data)
        train("after backward", *made())
    (FOLDER / f"report-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
"""


def run(folder: Path, devices: int) -> list[dict]:
    with exclusive(folder / "in use"):
        return reports_of(SCRIPT, folder, devices)


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> tuple[dict, dict]:
    first, second = run(tmp_path_factory.mktemp("processes") / "two", 2)
    return first, second


@pytest.mark.slow
def test_what_one_process_raises_both_raise_and_go_on_from(reports):
    for report in reports:
        assert report["folder"].startswith("FolderInUseError")
        assert "in the forward pass" in report["forward 2"]
        assert "in the forward pass" in report["forward 4"]
        right = report["after the folder"]
        assert len(right) == 2
        assert right != report["first"]
        assert report["after forward 2"] == report["after forward 4"] == right
    assert reports[0]["after the folder"] == reports[1]["after the folder"]


@pytest.mark.slow
def test_processes_with_other_data_are_refused(reports):
    for report in reports:
        for name in ("other data", "other numbers of data"):
            assert "train: expected the same model, data and arguments in each process" in report[name]


@pytest.mark.slow
def test_a_parameter_without_a_gradient_is_named(reports):
    for report in reports:
        assert "got none of encoder.unused.weight, encoder.unused.bias" in report["unused"]


@pytest.mark.slow
def test_fewer_examples_than_processes_are_trained_with(reports):
    assert all(len(report["one example"]) == 2 for report in reports)


@pytest.mark.slow
def test_both_validate_with_the_buffers_that_are_kept(reports):
    assert reports[0]["mean"] == reports[1]["mean"]
    assert len(reports[0]["mean"]) == 2
    assert reports[0]["mean"][0] != reports[0]["mean"][1]


@pytest.mark.slow
def test_a_failure_that_the_other_cannot_see_leaves_none_waiting(reports):
    first, second = reports
    assert second["backward"] == "MemoryError: in the backward pass"
    assert first["backward"].startswith("ProcessError: processes: expected 2 at work, got one that ended")
    for report in reports:
        assert "some that a failure has parted" in report["after backward"]


@pytest.mark.slow
def test_one_process_alone_needs_nothing_of_that(tmp_path):
    (report,) = run(tmp_path / "one", 1)
    assert len(report["unused"]) == len(report["one example"]) == 2
    assert report["folder"].startswith("FolderInUseError")
    assert "in the forward pass" in report["forward 2"]
