# Needs make and a Python from 3.11 on with its venv module; everything else is installed into $(VENV).
# Another Python: `make test PYTHON=python3.12`. It gets a virtual environment of its own.

PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(subst /,-,$(patsubst /%,%,$(PYTHON))))
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

# Stamps say what is installed; they are older than pyproject.toml when it has changed since.
CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint format benchmark clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Install mazejax into .venv, train on CartPole-v1 and show where the results are
	@$(BIN)/mazejax demo

test: lint ## Install the test tools too, lint, then run the test suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m optimized

test-slow: $(INSTALLED_DEV) ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m slow

lint: $(INSTALLED_DEV) ## Check style, types and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(INSTALLED_DEV) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

benchmark: $(INSTALLED_DEV) ## Measure environment steps and training against gymnax
	@$(BIN)/python -m benchmarks.env_step
	@$(BIN)/python -m benchmarks.train

clean: ## Remove the virtual environments, builds and caches, but no runs
	@rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "mazejax needs Python 3.11 or newer, and $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo missing):" \
	    "choose one, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo '*' > $(VENV)/.gitignore
	@touch $@

$(INSTALLED): pyproject.toml $(CREATED)
	@echo "Installing mazejax into $(VENV); the first time this takes about a minute."
	@$(PIP) --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml $(CREATED)
	@echo "Installing mazejax and its test tools into $(VENV); the first time this takes about a minute."
	@$(PIP) --editable '.[dev]'
	@touch $(INSTALLED) $@
