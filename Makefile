# `make help` lists the targets. Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The finished experiment `make verify` looks at.
EXPERIMENT ?= ablation
DEVICE ?= cpu
# An environment with a CUDA build of PyTorch, which needs neither a GPU nor NVIDIA's packages; all else is in .venv.
REHEARSAL := .venv-rehearsal
# The oldest and the newest PyTorch that rehearsals are tried with.
VERSIONS := .venv-oldest .venv-newest
# The same with the versions of the runs that benchmarks/published.py rehearses.
PUBLISHED := .venv-published
# What `make rehearse` rehearses on: names of `footprint cards`.
CARDS ?= t4 a100-80gb h100-80gb
# What pytest is told; `make test PYTEST="-m 'not slow'"` leaves out what takes long.
PYTEST ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# Tools call one another by name (snakefmt calls shfmt), so the environment comes first on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install install-rehearsal install-programs install-versions install-published report site rehearse test bench verify reference soak quarto lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/^\([a-z-]*\):.*## /  make \1\t/' | expand -t 26

install: $(INSTALLED) ## install the pinned environment in .venv, each file checked against the hash in its lock

install-rehearsal: $(REHEARSAL)/.installed ## install a CUDA build of PyTorch for rehearsals in .venv-rehearsal (530 MB)

install-programs: $(REHEARSAL)/.programs ## install TRL, Lightning and torchtune there, which tests rehearse (120 MB)

install-versions: $(VERSIONS:=/.installed) ## install the oldest and the newest PyTorch that rehearsals are tested with (1.4 GB)

install-published: $(PUBLISHED)/.installed ## the same with the versions of other people's runs on a T4, for make bench (900 MB)

report: $(INSTALLED) ## run the published ablation on this machine's CPU and render its report
	@$(BIN)/snakemake --profile profiles/local --logger footprint
	@echo "report: $(CURDIR)/results/ablation/cpu/report.html"

site: $(INSTALLED) ## build the calculator in site/: static files for any web server (needs Node and npm; 12 MB)
	@$(BIN)/python scripts/site.py

# The last page shows all of them, and this machine's CPU or else the committed reference, side by side.
rehearse: $(INSTALLED) $(REHEARSAL)/.installed ## rehearse the published ablation on three GPUs that need not be here
	@set -e; for card in $(CARDS); do \
	  $(BIN)/snakemake --profile profiles/rehearsal --logger footprint --config card=$$card; done
	@$(BIN)/snakemake --profile profiles/rehearsal --logger footprint --config card=$(lastword $(CARDS)) --forcerun report
	@echo "report: $(CURDIR)/results/ablation/$(lastword $(CARDS))-rehearsed/report.html"

test: $(INSTALLED) ## run every check: ruff, snakefmt, snakemake --lint, pytest
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

bench: $(INSTALLED) $(PUBLISHED)/.installed ## run the benchmarks; each prints one ratio and writes results/bench/*.csv
	@set -e; for benchmark in benchmarks/*.py; do echo "$$benchmark"; $(BIN)/python "$$benchmark"; done

verify: $(INSTALLED) ## carry out three runs of a finished experiment again, byte by byte (EXPERIMENT=ablation DEVICE=cpu)
	$(BIN)/footprint verify --experiment $(EXPERIMENT) --device $(DEVICE)

reference: $(INSTALLED) ## measure ablation and smoke anew, write their reference tables, say what changed
	$(BIN)/snakemake --profile profiles/local --forcerun measure finetune
	$(BIN)/snakemake --profile profiles/local --configfile config/smoke.yaml --forcerun measure finetune
	$(BIN)/python tests/reference/update.py

soak: $(INSTALLED) ## kill the smoke experiment at 20 random moments and count what is lost: half an hour or more (FLAGS="--kills 4")
	$(BIN)/python tests/support/soak.py $(FLAGS)

quarto: $(INSTALLED) ## install Quarto for a richer page; fetches the program from its release page
	$(PIP) quarto-cli==1.8.27

lock: $(INSTALLED) ## resolve envs/requirements.in again for every supported Python, with the hash of every file
	$(PIP) uv==0.13.9
	$(BIN)/uv pip compile --quiet --upgrade envs/requirements.in --output-file envs/requirements.lock

clean: ## remove the environment and every result but the reference
	rm -rf $(VENV) $(REHEARSAL) $(VERSIONS) $(PUBLISHED) site build .snakemake .pytest_cache .ruff_cache .hypothesis
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +

$(INSTALLED): envs/requirements.lock envs/torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"error: Python {v[0]}.{v[1]} is not supported; use 3.11 to 3.13, for example make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r envs/requirements.lock
	$(PIP) -r envs/torch.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(REHEARSAL)/.programs: envs/programs.txt envs/torchtune.txt $(REHEARSAL)/.installed
	$(REHEARSAL)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r envs/programs.txt
	$(REHEARSAL)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --upgrade -r envs/torchtune.txt \
	  --target $(REHEARSAL)/torchtune
	@touch $@

$(REHEARSAL)/.installed: envs/torch-cuda.txt
.venv-oldest/.installed: envs/torch-oldest.txt
.venv-newest/.installed: envs/torch-newest.txt
$(PUBLISHED)/.installed: envs/published.txt
$(REHEARSAL)/.installed $(VERSIONS:=/.installed) $(PUBLISHED)/.installed: $(INSTALLED)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps -r $(filter envs/%,$^)
	$(@D)/bin/python -c "import sysconfig, pathlib; place = pathlib.Path(sysconfig.get_path('purelib')); \
	  rest = place.parents[3] / '$(VENV)' / place.relative_to(place.parents[2]); \
	  (place / 'rest.pth').write_text(f'import site; site.addsitedir({str(rest)!r})\n')"
	@touch $@
