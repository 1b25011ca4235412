# Two commands matter: `make demo` and `make test`. Both set up their environment first.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= runs/demo
AUDIT_S ?= 300

.DEFAULT_GOAL := help
.PHONY: help install demo demo-hand test check test-slow test-gpu goldens clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

install: $(STAMP) ## make the environment in .venv with the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $(STAMP)

demo: install ## synthetic people, training on a local Ray cluster, evaluation, gallery (runs/demo)
	$(BIN)/python jobs/train_body.py --preset demo --run.output_dir $(DEMO) --run.overwrite true

demo-hand: install ## the same for hands (runs/demo-hand)
	$(BIN)/python jobs/train_hand.py --preset demo_hand --run.output_dir $(DEMO)-hand --run.overwrite true

test: install ## all fast tests
	$(BIN)/python -m pytest -m "not slow and not gpu"

check: install ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test-slow: install ## the tests that `make test` leaves out
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: install ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu tests/gpu

goldens: install ## METRO's own numbers; GOLDENS=DIR takes another set
	$(BIN)/python -m pytest tests/goldens $(if $(GOLDENS),--goldens $(GOLDENS))

$(VENV)/.audit: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[audit]'
	@touch $@

audit: $(VENV)/.audit ## known vulnerabilities of the pinned versions; asks PyPI's advisory service
	@timeout $(AUDIT_S) $(BIN)/pip-audit --strict --no-deps --disable-pip --timeout 15 -r constraints.txt \
	  || { echo "audit failed: what it found is listed above; without vulnerabilities in it, the advisory service at https://pypi.org was not reached within $(AUDIT_S) s and nothing was looked up: run it where it can be" >&2; exit 1; }

sbom: $(VENV)/.audit ## what is installed, as CycloneDX JSON (sbom.json)
	$(BIN)/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-file sbom.json

clean: ## remove the environment and caches, keep runs
	rm -rf $(VENV) .ruff_cache .hypothesis .import_linter_cache
