"""Importing the library changes nothing in torch, Pyro, logging or the random state."""

import subprocess
import sys

import vae_flows

PROBE = """
import logging, sys, warnings
import torch, pyro, torch.distributions, torchdiffeq  # whose own imports add warning filters
torch.manual_seed(3)
def state():
    return (
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
        torch.distributions.Distribution._validate_args, pyro.settings.get(),
        logging.root.level, tuple(logging.root.handlers), tuple(warnings.filters),
        torch.get_rng_state().numpy().tobytes(), torch.distributions.Normal.__init__,
    )
before = state()
import vae_flows
changed = [index for index, (old, new) in enumerate(zip(before, state())) if old != new]
assert not changed, f"importing vae_flows changed entries {changed} of the global state"
heavy = {"PIL", "huggingface_hub", "jinja2", "lightning_fabric", "matplotlib", "rich", "tensorboard", "torchvision"}
heavy |= {"tyro"}
heavy &= set(sys.modules)
assert not heavy, f"importing vae_flows brought {heavy}"
vae_flows.training, vae_flows.reporting
assert torch.get_rng_state().numpy().tobytes() == before[8]
"""


def test_import_has_no_side_effects():
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


ANY_FIRST = """
import sys
from importlib import import_module
from pkgutil import iter_modules
import torch, pyro, torchdiffeq, vae_flows

for module in iter_modules(vae_flows.__path__, "vae_flows."):
    if not module.name.endswith("__main__"):
        for name in [name for name in sys.modules if name.partition(".")[0] == "vae_flows"]:
            del sys.modules[name]
        import_module(module.name)
"""


def test_any_module_can_be_imported_first():
    result = subprocess.run([sys.executable, "-c", ANY_FIRST], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


CORE_ALONE = """
import sys
import torch

class NoPyro:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pyro":
            raise ImportError(f"{name} is not needed here")

sys.meta_path.insert(0, NoPyro())
from vae_flows.cnf import ContinuousNormalizingFlow, ContinuousTransform, MLPDynamics
flow = ContinuousNormalizingFlow(MLPDynamics(2, (8,)))
x = torch.randn(5, 2)
for transform in (flow.transform(), ContinuousTransform(lambda t, z: -z, divergence="exact")):
    z = transform.inv(x.requires_grad_())
    transform.log_abs_det_jacobian(z, x).sum().backward()
loaded = {name for name in sys.modules if name.startswith(("vae_flows.vae", "vae_flows.posterior", "vae_flows.guides"))}
assert not loaded, loaded
"""


def test_the_continuous_core_needs_neither_pyro_nor_the_vae():
    result = subprocess.run([sys.executable, "-c", CORE_ALONE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_namespace_shows_the_library_and_nothing_else():
    names = {name for name in dir(vae_flows) if not name.startswith("__")}
    listed = {name for name in vae_flows.__all__ if not name.startswith("__")}
    assert names == listed | {"benchmark", "export", "reporting", "runs", "testing", "training", "Run", "compare"}
    assert all(hasattr(vae_flows, name) for name in names)
    assert not {"Any", "import_module"} & set(vars(vae_flows))
