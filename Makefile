# Every target sets itself up: the first one makes .venv and installs requirements.lock, later ones find the stamp.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TORCH_INSTALLED := $(VENV)/.torch-installed
ARGS ?=

export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench knobs metrics lock clean

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(INSTALLED) ## Fine-tune a small model on the messages that come with kft
	$(BIN)/kft demo $(ARGS)

test: $(INSTALLED) ## Run the quick tests; ARGS=tests/data runs some of them
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: $(INSTALLED) $(TORCH_INSTALLED) ## Install torch too and run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(INSTALLED) ## Check style, format, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## Measure import time and memory; benchmarks/against_peer.py needs a second environment
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/memory_by_rows.py

metrics: $(INSTALLED) ## Write docs/metrics.md anew from kft/evaluation/kinds.py
	$(BIN)/python -c "from kft.evaluation import kinds; print(end=kinds.table())" > docs/metrics.md

knobs: $(INSTALLED) ## Write docs/knobs.md anew from kft/recipe
	$(BIN)/python -c "from kft import knobs, recipe; print(end=knobs.table(recipe.Recipe.model_fields))" > docs/knobs.md

lock: $(BIN)/python ## Write requirements.lock anew from pyproject.toml; ARGS=--upgrade for newer versions
	$(PIP) install --quiet "uv>=0.9.8"
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
		--extra dev --extra jax --extra minilm --generate-hashes --custom-compile-command "make lock" \
		--output-file requirements.lock $(ARGS)

clean: ## Remove .venv, built packages and the caches of the tools; never a run or an export
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find kft serve tuning tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit( \
		"$(PYTHON) is Python %d.%d; kft needs 3.11 to 3.13. Name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)

# --no-deps: the lock already is the whole list, less what `exclude-dependencies` in pyproject.toml names.
$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --no-deps --require-hashes --requirement requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(TORCH_INSTALLED): $(INSTALLED)
	$(PIP) install --quiet "torch>=2.13,<2.15"
	touch $@
