"""Run the suite as on machines unlike this one: other seeds, vector instructions, threads and releases of torch.

    python -m tests.everywhere              every variant, one after the other
    python -m tests.everywhere --turn 1a2b  the one that a commit's hash, or any hexadecimal number, points to
    python -m tests.everywhere --turn 1a2b --parts 2    on one of two halves of the files, which the hash chooses too

What follows goes to pytest. The exit status is 0 where all passed. Every two settings meet in some variant, so that
a fault shows that hangs on one of them or on a pair; of three that have to meet, chance decides.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.seeds import VARIABLE

__all__ = ["VARIANTS", "Variant", "main"]

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {"newest": ".venv", "oldest": ".venv-oldest"}


@dataclass(frozen=True)
class Variant:
    """Settings of one run.

    Arguments:
        releases: `"newest"` or `"oldest"` of torch and the other dependencies.
        seed: By how much seeds are shifted.
        instructions: The widest vector instructions that torch may use; `"default"` for none.
        threads: Threads of torch in each process.
    """

    releases: str
    seed: int
    instructions: str
    threads: int

    def __str__(self) -> str:
        return f"{self.releases} releases, seed {self.seed}, {self.instructions} instructions, {self.threads} thread(s)"

    def command(self, options: Sequence[str]) -> list[str]:
        """Return the command line; a process for each core, as most of a test is work for one thread."""
        python = ROOT / ENVIRONMENTS[self.releases] / "bin" / "python"
        return [str(python), "-m", "pytest", "--quiet", f"--numprocesses={os.cpu_count() or 1}", *options]

    def environment(self) -> dict[str, str]:
        """Return the variables to run it with."""
        variables = {VARIABLE: self.seed, "ATEN_CPU_CAPABILITY": self.instructions, "OMP_NUM_THREADS": self.threads}
        return {**os.environ, **{name: str(value) for name, value in variables.items()}}


VARIANTS = (
    Variant("newest", 0, "default", 1),
    Variant("newest", 1, "avx2", 2),
    Variant("oldest", 2, "avx2", 1),
    Variant("newest", 2, "default", 2),
    Variant("oldest", 0, "avx2", 2),
    Variant("oldest", 1, "default", 1),
)


def _install(variant: Variant) -> None:
    """Make the environment that the variant needs."""
    if variant.releases == "oldest":
        subprocess.run(["make", "setup-oldest"], cwd=ROOT, check=True)


def run(variant: Variant, options: Sequence[str]) -> bool:
    """Run the suite and return whether it passed."""
    _install(variant)
    print(f"\n== {variant}", flush=True)
    return subprocess.run(variant.command(options), cwd=ROOT, env=variant.environment(), check=False).returncode == 0


def main(arguments: Sequence[str], run: Callable[[Variant, Sequence[str]], bool] = run) -> int:
    """Run the variants that are asked for, all of them although some fail, and say which failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.everywhere")
    parser.add_argument("--turn", type=lambda text: int(text, 16), help="a hexadecimal number that chooses one variant")
    parser.add_argument("--parts", type=int, default=1, help="into how many parts a turn cuts the files, to run one")
    settings, options = parser.parse_known_args(arguments)
    chosen: Sequence[Variant] = VARIANTS
    if settings.turn is not None:
        others, own = divmod(settings.turn, len(VARIANTS))
        chosen = [VARIANTS[own]]
        options.append(f"--part={others % settings.parts + 1}/{settings.parts}")
    failed = [variant for variant in chosen if not run(variant, options)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} variants passed")
    print(*(f"failed: {variant}" for variant in failed), sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
