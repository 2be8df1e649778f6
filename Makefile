# Every target makes the virtual environment .venv by itself when it is missing.
# Variables: PYTHON=python3.12  PRESET=paper  WORKERS=2  THREADS=1  DEVICE=cuda (of speed)  OPTIONS="--seeds 0"

PYTHON ?= python3
PRESET ?= quick
RUNS ?= runs/$(PRESET)
WORKERS ?=
THREADS ?=
DEVICE ?=
OPTIONS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.installed-peers
MUTATION := $(VENV)/.installed-mutation
OLDEST := .venv-oldest/.installed
RUN := $(VENV)/bin/python
BENCHMARK = $(RUN) -m experiments benchmark --preset $(PRESET) \
	$(if $(WORKERS),--workers $(WORKERS)) $(if $(THREADS),--threads $(THREADS))

.PHONY: help setup setup-oldest benchmark report benchmark-mnist benchmark-caltech benchmark-frey benchmark-omniglot ablations density density-glow density-images regularizers \
	speed smoke examples example-plain example-pyro example-hierarchical example-conditional example-prior \
	test test-all test-everywhere mutation lint format typecheck clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-21s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Make .venv with everything in it

# The stamp is the last thing written: after an interrupted installation it is missing, and the next make goes on.
$(STAMP): pyproject.toml
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "vae-flows needs Python 3.11 or newer, but there is no '$(PYTHON)'. Try: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "vae-flows needs Python 3.11 or newer, but '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Try: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV) (once, some minutes) ..."
	@rm -f $@
	@"$(PYTHON)" -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

setup-oldest: $(OLDEST) ## Make .venv-oldest with the oldest releases that are supported (Python 3.11 or 3.12, 6 GB)

$(OLDEST): pyproject.toml tests/oldest.txt
	@echo "Installing the oldest releases into .venv-oldest (once, some minutes) ..."
	@rm -f $@
	@"$(PYTHON)" -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt \
		--editable ".[test]"
	@touch $@

benchmark: $(STAMP) ## Compare all seven posteriors on Caltech 101 Silhouettes (PRESET=quick: ten minutes on two cores)
	@$(BENCHMARK) $(OPTIONS)

report: $(STAMP) ## Make one page of HTML from runs (RUNS="runs/quick other", by default those of PRESET)
	@$(RUN) -m vae_flows report $(RUNS)

benchmark-mnist: $(STAMP) ## The same comparison on static MNIST (PRESET=paper: the published settings)
	@$(BENCHMARK) --data mnist-static --folder runs/$(PRESET)-mnist $(OPTIONS)

benchmark-caltech: $(STAMP) ## The same comparison on Caltech 101 Silhouettes
	@$(BENCHMARK) --data caltech101-silhouettes --folder runs/$(PRESET)-caltech $(OPTIONS)

benchmark-frey: $(STAMP) ## The same comparison on Frey Faces
	@$(BENCHMARK) --data frey-faces --folder runs/$(PRESET)-frey $(OPTIONS)

benchmark-omniglot: $(STAMP) ## The same comparison on OMNIGLOT (own split)
	@$(BENCHMARK) --data omniglot --folder runs/$(PRESET)-omniglot $(OPTIONS)

# Beside the stamp for the rest, because nothing else needs the peers.
$(PEERS): $(STAMP)
	@echo "Installing the peers to compare with (once, a minute) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev,peers]"
	@# Apart: what torchode needs asks for an older typeguard than the command line, and works with a newer one.
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps torchode==1.0.1 torchtyping==0.1.5
	@touch $@

speed: $(PEERS) ## Compare speed with the published formulation, zuko, diffrax, torchode and Pyro: half an hour on two idle cores
	@$(RUN) -m experiments speed $(if $(DEVICE),--device $(DEVICE)) $(OPTIONS)

density: $(STAMP) ## Learn a toy density and draw it (OPTIONS="--data checkerboard", or all: some minutes each)
	@$(RUN) -m experiments density $(OPTIONS)

density-glow: $(STAMP) ## Learn toy densities by FFJORD and by a flow like Glow in equal time: half an hour
	@$(RUN) -m experiments density-glow $(OPTIONS)

density-images: $(STAMP) ## Learn densities of images at one scale and at three in equal time: a quarter of an hour
	@$(RUN) -m experiments density-images $(OPTIONS)

ablations: $(STAMP) ## Ask what each part of FFJORD as a posterior is worth, by 136 trainings that can be resumed: some seventy minutes on two cores
	@$(RUN) -m experiments ablations $(OPTIONS)

regularizers: $(STAMP) ## Compare regularisers of the dynamics: evaluations against likelihood
	@$(RUN) -m experiments regularizers $(OPTIONS)

examples: example-plain example-pyro example-hierarchical example-conditional example-prior ## Run all examples (OPTIONS=--quick: seconds)

example-plain: $(STAMP) ## A VAE in plain PyTorch: its Gaussian posterior against FFJORD (each example: minutes)
	@$(RUN) -m examples.plain_torch_vae $(OPTIONS)

example-pyro: $(STAMP) ## The VAE of Pyro's tutorial: its Gaussian guide against FFJORD
	@$(RUN) -m examples.pyro_vae_tutorial $(OPTIONS)

example-hierarchical: $(STAMP) ## A hierarchical model with constrained latents: autoguides against NUTS
	@$(RUN) -m examples.hierarchical_autoguide $(OPTIONS)

example-conditional: $(STAMP) ## A conditional VAE that completes characters
	@$(RUN) -m examples.conditional_vae $(OPTIONS)

example-prior: $(STAMP) ## A VAE whose prior is a continuous normalizing flow
	@$(RUN) -m examples.learned_prior $(OPTIONS)

smoke: $(STAMP) ## Run every posterior for seconds, to see that everything works
	@$(RUN) -m experiments benchmark --preset smoke $(OPTIONS)

test: $(STAMP) ## Run the fast tests
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --quiet --numprocesses auto $(OPTIONS)

test-all: $(STAMP) ## Run the slow tests too
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --quiet --numprocesses auto -m "slow or not slow" $(OPTIONS)

test-everywhere: $(STAMP) ## Run the fast tests with other seeds, vector instructions, threads and the oldest releases
	@$(RUN) -m tests.everywhere $(OPTIONS)

$(MUTATION): $(STAMP)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev,mutation]"
	@touch $@

mutation: $(MUTATION) ## Put faults into the numeric core and see which the tests find (OPTIONS="--sample 100 --seed 0")
	@$(RUN) -m tests.mutation $(OPTIONS)

lint: $(STAMP) ## Check style and format
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --quiet --check .

format: $(STAMP) ## Put the code into format
	@$(RUN) -m ruff check --quiet --fix .
	@$(RUN) -m ruff format --quiet .

typecheck: $(STAMP) ## Check types
	@$(RUN) -m pyright

clean: ## Remove caches, but neither environments nor runs
	@rm -rf .pytest_cache .ruff_cache build dist *.egg-info
	@find examples experiments tests vae_flows -name __pycache__ -type d -prune -exec rm -rf {} +
