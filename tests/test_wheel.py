"""The wheel holds the package whole, with its data and its command, and nothing else, and works by itself."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = """
import sys
from importlib.metadata import distribution
import vae_flows
(command,) = distribution("vae-flows").entry_points.select(group="console_scripts", name="vae-flows")
print(vae_flows.__file__)
sys.argv[1:] = ["data", "frey-faces"]
raise SystemExit(command.load()())
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Return a folder into which the wheel is unpacked, as pip does where nothing is compiled."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files_under(folder):
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix() for name in names if "__pycache__" not in name.parts}


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(unpacked):
    packed = files_under(unpacked / "vae_flows")
    assert packed == files_under(ROOT / "vae_flows")
    assert {"__main__.py", "py.typed", "data/files/mnist_static.npz"} <= packed
    folders = {path.name for path in unpacked.iterdir()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"vae_flows"}


def test_its_command_starts_and_finds_its_data_in_an_empty_folder(unpacked, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(unpacked))
    assert "frey-faces" in done.stdout
    assert not list(tmp_path.iterdir())
