# Each target sets up what it needs in .venv, with python3, venv and pip alone. Running one twice does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch first, and by its exact version: other packages would bring another build of it.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-slow check format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train]'
	@touch $@

install: $(VENV)/.installed ## install the package into .venv

install-dev: $(VENV)/.installed-dev ## install it with what development needs

demo: install ## rank a list of each domain with the embedded model
	$(BIN)/unified-ranker demo

test: install-dev ## the quick tests: no network, no accelerator
	$(BIN)/python -m pytest -m "not slow and not gpu and not vllm and not verl"

test-slow: install-dev ## the slow tests: wheels, training runs
	$(BIN)/python -m pytest -m "slow and not gpu and not vllm and not verl"

check: install-dev ## ruff, ruff format, and mypy strict on the installed package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .typecheck build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target .typecheck .
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml -p unified_ranker

format: install-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the targets made
	rm -rf $(VENV) .typecheck build dist *.egg-info
