"""A guide needs the hard dependencies alone; every other part says in a line what to type where its packages lack."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLUSTERS = ("ray", "slurm")
EXTRAS = ("train", "plots", "hub", "vision", "cli", "zuko", "stats", "onnx", *CLUSTERS)
IMPORTED = {"huggingface_hub": "huggingface_hub", "pillow": "PIL", "arviz-stats": "arviz_stats"}

BLOCK = """
import sys
from importlib.machinery import PathFinder
class Blocked:
    names = set({blocked})
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.names else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Blocked()
"""


def packages(extra):
    """Return the names by which the packages of an extra are imported, those of extras within it left out."""
    names = [re.split(r"[><=\[]", text)[0] for text in PROJECT["optional-dependencies"][extra]]
    return {IMPORTED.get(name, name.replace("-", "_")) for name in names if name != "vae-flows"}


OPTIONAL = set().union(*map(packages, EXTRAS))


def run(code):
    program = BLOCK.format(blocked=sorted(OPTIONAL)) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


GUIDE = """
import tempfile, warnings
from importlib.util import find_spec
from pathlib import Path
import pyro, torch
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO
import vae_flows as vf

def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", Normal(z, 1.0).to_event(1), obs=x)

guide = vf.FlowGuide(torch.nn.Linear(2, 8), vf.AmortizedPosterior(2, 8, hidden_dims=(8,)))
svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
assert isinstance(svi.step(torch.randn(6, 2)), float)
auto = vf.AmortizedAutoGuide(model, torch.nn.Linear(2, 8), flow="planar")
assert isinstance(SVI(model, auto, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO()).step(torch.randn(6, 2)), float)

folder = tempfile.mkdtemp()
posterior = guide.posterior
posterior.save_pretrained(folder)
loaded = vf.AmortizedPosterior.from_pretrained(folder)
assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), posterior.parameters(), strict=True))
vf.training.TrainingSettings, vf.training.load_weights
print(vf.reporting.summarize([vf.reporting.RunResult("mnist", "planar", 0, negative_elbo=1.0)]))
"""


def test_a_guide_is_trained_and_saved_with_the_hard_dependencies_alone():
    result = run(GUIDE)
    assert result.returncode == 0, result.stderr


USES = """
import json, pathlib, tempfile
import torch, vae_flows as vf
from vae_flows.likelihoods import BernoulliLikelihood
from vae_flows.networks import MLPDecoder, MLPEncoder

folder, shape = pathlib.Path(tempfile.mkdtemp()), (1, 2, 2)
(folder / "pictures").mkdir()
for number in range(30):
    (folder / "pictures" / f"{number}.png").write_bytes(b"")

parts = MLPEncoder(shape, (4,), 3), MLPDecoder(2, shape, (4,)), vf.AmortizedPosterior(2, 3, "none")
vae = vf.VAE(*parts, BernoulliLikelihood())

def train():
    settings = vf.training.TrainingSettings(max_epochs=1, batch_size=10, warmup_epochs=0)
    vf.training.train(vae, torch.rand(50, *shape), settings, folder=folder / "run")

def entry():
    import vae_flows.cli.main

def commands():
    import vae_flows.cli.commands

def engine(name):
    from vae_flows.benchmark.engines import EngineSettings, open_engine
    with open_engine(EngineSettings(name), vf.training.ComputeSettings()):
        pass

uses = {
    "train": [train],
    "cli": [entry, commands],
    "plots": [lambda: vf.reporting.plot_curves],
    "hub": [lambda: vf.AmortizedPosterior(2, 3, "none").push_to_hub("owner/model")],
    "vision": [lambda: vf.data.load("fashionmnist"), lambda: vf.data.load(str(folder / "pictures"))],
    "zuko": [lambda: vf.make_flow("zuko:NSF", 2, 3)],
    "onnx": [lambda: vf.export.to_onnx(vae, folder / "deployed", torch.rand(2, *shape))],
    "ray": [lambda: engine("ray")],
    "slurm": [lambda: engine("slurm")],
    "stats": [lambda: vf.evaluation.diagnose_weights(torch.randn(100))],
}
told = {}
for extra, functions in uses.items():
    told[extra] = []
    for function in functions:
        Blocked.names = set(names)
        while True:  # a package that was told is there from then on, so that the next one is
            try:
                function()
            except vf.MissingPackageError as error:
                told[extra].append(str(error))
                Blocked.names.discard(str(error).split()[1].rstrip(":"))
                if len(told[extra]) >= sizes[extra]:
                    break
                continue
            break
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """What each extra's uses said, while one after the other of their packages came to be there."""
    sizes = {extra: len(packages(extra)) for extra in EXTRAS} | {"cli": len(OPTIONAL)}
    result = run(f"names, sizes = {sorted(OPTIONAL)}, {sizes}\n" + USES)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_lacks_is_told_with_the_line_to_type(told, extra):
    absent = [name for name in packages(extra) if find_spec(name) is None]
    if absent:  # then the first lacks for good, and hides those after it
        pytest.skip(f"needs {', '.join(absent)}")
    pattern = rf"package (\w+): expected one that is installed, got none\. Try: pip install 'vae-flows\[{extra}\]'"
    named = {re.fullmatch(pattern, line).group(1) for line in told[extra]}
    within = packages("train") if extra == "cli" else set()  # which it brings
    assert packages(extra) <= named <= packages(extra) | within


def test_the_command_ends_in_one_line_without_its_packages():
    result = run("import vae_flows.__main__ as command; sys.exit(command.main())")
    assert result.returncode == 1
    assert re.fullmatch(r"package \w+: .* Try: pip install 'vae-flows\[cli\]'\n", result.stderr), result.stderr


def test_every_extra_but_the_engines_of_clusters_is_in_all():
    within = set(re.search(r"\[(.*)\]", *PROJECT["optional-dependencies"]["all"]).group(1).split(","))
    assert within == set(EXTRAS) - set(CLUSTERS)


def test_oldest_releases_are_those_that_are_allowed():
    lines = [line for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines() if "==" in line]
    oldest = dict(line.split("==") for line in lines)
    untested = ("stats", "onnx", *CLUSTERS)
    extras = [PROJECT["optional-dependencies"][extra] for extra in (*EXTRAS, "test") if extra not in untested]
    for requirement in (*PROJECT["dependencies"], *(text for extra in extras for text in extra)):
        if not requirement.startswith("vae-flows"):
            name, least = requirement.split(">=")
            assert (oldest[name] + ".").startswith(least + "."), name
