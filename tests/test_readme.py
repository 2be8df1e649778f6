"""What the README shows must run, and what it claims must be what was measured."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
from PIL import Image

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number):
    pyro.clear_param_store()
    reseed()
    exec(compile(SNIPPETS[number], f"README snippet {number}", "exec"), {})
    pyro.clear_param_store()


def test_there_are_snippets():
    assert len(SNIPPETS) >= 3


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_into_the_repository_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_every_make_target_and_flow_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_gains_of_the_examples_are_those_that_were_recorded():
    section = README.split("## Examples")[1].split("\n## ")[0]
    gains = re.findall(r"\d+\.\d+ ± \d+\.\d+", section)
    recorded = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert len(gains) == 6
    assert all(gain in recorded for gain in gains)


def test_the_speed_that_is_claimed_is_what_was_published():
    shown = re.search(r"<!-- speed:begin -->\n(.*?)\n<!-- speed:end -->", README, flags=re.DOTALL)
    published = (ROOT / "experiments" / "results" / "speed" / "speed.md").read_text(encoding="utf-8")
    assert shown is not None
    assert published.startswith(shown.group(1))


def commands_shown() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1 : words.index(">")] if ">" in words else words[1:] for words in lines if words[:1] == ["vae-flows"]]


@pytest.mark.parametrize(
    "words", [words for words in commands_shown() if words[0] in ("train", "benchmark")], ids=" ".join
)
def test_flags_that_are_shown_are_taken(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("grey.npz", "wine.csv", "counts.npy"):
        (tmp_path / name).touch()
    assert main(["train", "--print-settings"]) == 0
    (tmp_path / "mine.json").write_text(capsys.readouterr().out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "settings.json").write_bytes((tmp_path / "mine.json").read_bytes())
    assert main([*words, "--print-settings"]) == 0


def test_all_that_a_first_comparison_takes_is_shown_in_less_than_sixty_lines():
    section = README.split("## Your own data")[1].split("\n## ")[0]
    assert len(section.strip().splitlines()) < 60
    data = ("wine.csv", "--standardize", "poisson", "pictures", "discretised logistic")
    assert all(part in section for part in data)
    assert all(part in section for part in ("importance_weighted", "cosine", "ema-decay", "tensorboard", "to_onnx"))
    assert "notebook" in section


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some ten trainings, one after the other
def test_data_of_ones_own_are_compared_as_it_is_shown(tmp_path, monkeypatch):
    section = README.split("## Your own data")[1].split("\n## ")[0]
    (shell,) = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    (python,) = re.findall(r"```py\n(.*?)```", section, flags=re.DOTALL)
    generator = np.random.RandomState(0)
    (tmp_path / "pictures").mkdir()
    for number in range(60):
        Image.fromarray(generator.randint(0, 256, (10, 14, 3)).astype(np.uint8)).save(
            tmp_path / f"pictures/{number}.png"
        )
    np.savez(tmp_path / "grey.npz", images=generator.randint(0, 256, (60, 9, 11)).astype(np.uint8))
    rows = "".join(f"{a},{b},{n % 3}\n" for n, (a, b) in enumerate(generator.randn(60, 2)))
    (tmp_path / "wine.csv").write_text(f"alcohol,ash,cultivar\n{rows}")
    np.save(tmp_path / "counts.npy", generator.poisson(5.0, (60, 4)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    quick = "--accelerator cpu --training.max-epochs 2 --network.hidden-dims 16 --evaluation.importance-samples 0"
    for line in shell.strip().splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "vae-flows"
        extra = quick.split() if words[1] in ("train", "benchmark") else []
        subprocess.run([sys.executable, "-m", "vae_flows", *words[1:], *extra], check=True)
    names: dict[str, Any] = {}
    exec(compile(python, "README", "exec"), names)
    assert names["samples"].shape == (16, 3, 10, 14)
    assert len(vf.Run("again").history) == 2
    assert names["files"].encode.exists()
