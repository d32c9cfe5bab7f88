# Every target does its own set-up. `make run` plays; `make test-all` is what CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
PIP := .venv/bin/pip
READY := .venv/.ready
# Two OpenMP threads on shared cores are many times slower than one, and one is reproducible.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# Processes that run tests side by side need not all compile the same modules, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
# A file of tests is run by one process, so that it makes its runs and servers once; tests/conftest.py deals the long ones first.
# Twice as many processes as two cores, because tests wait for containers, servers and each other; four at most: each takes a GB.
PROCESSES := $(shell cores=$$(env -u OMP_NUM_THREADS nproc); echo $$((cores < 2 ? 2 : 4)))
PYTEST := .venv/bin/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
TESTS := not endurance
# What does not wait for another, at once; what each prints stays together.
TOGETHER := $(MAKE) --no-print-directory -j $(if $(filter output-sync,$(.FEATURES)),-Oline)

.PHONY: help setup run run-qwen experiment lint formatted linted typed layered services engine check test test-all bench-log bench-sandbox bench-serving bench-trainer bench-verdicts bench-completions bench-web format drawn lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(PIP):
	@echo "== making .venv with pinned dependencies (a few minutes the first time)"
	@python3 -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed")'
	@python3 -m venv .venv || { echo "== installing python3-venv"; apt-get -qq update; apt-get -qq install -y python3-venv; python3 -m venv .venv; }

$(READY): pyproject.toml requirements.lock requirements.vllm.lock | $(PIP)
	@.ci/install
	@touch $(READY)

setup: $(READY)  ## Make .venv and install pinned dependencies

run: setup  ## Play the default run (about ten minutes on two cores); ARGS='--set seed=1' changes it
	@trap '$(PY) -m sandbox.engine down --idle' EXIT; $(PY) -m sandbox.engine up; $(PY) -m graph.run $(ARGS)

# Where the model and MBPP come from: names of the hub, or a folder (or GGUF file) and mbpp:FILE.
MODEL ?= Qwen/Qwen2.5-Coder-0.5B-Instruct
MBPP ?= mbpp
run-qwen: export HF_HUB_OFFLINE := 0
run-qwen: setup  ## Play GASP on Qwen2.5-Coder-0.5B and MBPP (hours on two cores; repeat it to go on); MODEL, MBPP and ARGS change it
	@trap '$(PY) -m sandbox.engine down --idle' EXIT; $(PY) -m sandbox.engine up; mkdir -p runs; \
		$(PY) -m graph.goalposts "$(MBPP)?split=train" --config configs/qwen-0.5b-cpu.toml --set model=$(MODEL) --samples 50 \
			--out runs/mbpp-goalposts.jsonl --rest runs/mbpp-practice.jsonl; \
		if [ -d runs/qwen ]; then $(PY) -m graph.run --resume qwen; else $(PY) -m graph.run configs/qwen-0.5b-cpu.toml --name qwen \
			--set model=$(MODEL) --set goalposts=runs/mbpp-goalposts.jsonl --set practice=runs/mbpp-practice.jsonl \
			--set "validation=$(MBPP)?split=validation" --set "test=$(MBPP)?split=test" $(ARGS); fi

experiment: setup  ## Play every recipe on the pocket world (hours; repeat it to go on) and write docs/results.md
	@trap '$(PY) -m sandbox.engine down --idle' EXIT; $(PY) -m sandbox.engine up; \
		$(PY) -m trainer.experiment configs/experiments/pocket.toml $(ARGS) && $(PY) -m trainer.experiment configs/experiments/pocket.toml --report

lint:  ## Check format, lint, types and layers
	@$(TOGETHER) formatted linted typed layered

formatted: setup
	.venv/bin/ruff format --check .
linted: setup
	.venv/bin/ruff check .
typed: setup
	.venv/bin/mypy
layered: setup
	.venv/bin/lint-imports
# Not beside the making of .venv: both may call apt-get.
services: | $(PIP)
	@.ci/postgres
	@.ci/chromium
engine: setup
	@$(PY) -m sandbox.engine up

check: lint  ## Check as `lint`, then run the tests that need no Docker and take no time
	$(PYTEST) -q -m "not docker and not slow and not endurance" $(ARGS)

test:  ## Check as `lint`, then run the suite, Docker included, without endurance tests; ARGS='-k log' selects
	@trap 'if [ -f $(READY) ]; then $(PY) -m sandbox.engine down --idle; fi' EXIT; \
		$(TOGETHER) typed services engine formatted linted layered; $(PYTEST) -m "$(TESTS)" $(ARGS)

test-all:  ## Run the whole suite, endurance tests included, as CI does
	@$(MAKE) --no-print-directory test TESTS='not excerpt'

bench-log: setup  ## Measure the event log (some minutes; a quiet machine is best) into docs/benchmarks.md; ARGS='--help' lists options
	@.ci/postgres
	$(PY) -m benchmarks.log $(ARGS)

bench-sandbox: setup  ## Measure the sandbox (some minutes; a quiet machine is best) into docs/benchmarks.md; ARGS='--help' lists options
	@trap '$(PY) -m sandbox.engine down --idle' EXIT; $(PY) -m benchmarks.sandbox $(ARGS)

bench-serving: setup  ## Measure sampling, in this process and from a vLLM server (some minutes), into docs/benchmarks.md; ARGS='--help' lists options
	$(PY) -m benchmarks.serving $(ARGS)

bench-trainer: setup  ## Measure an update of the trainer (some minutes) into docs/benchmarks.md; ARGS='--help' lists options
	$(PY) -m benchmarks.trainer $(ARGS)

bench-verdicts: setup  ## Compare verdicts with the benchmarks' own (some minutes) into docs/verdicts.md; ARGS='--data FOLDER' says where their records are
	$(PY) -m benchmarks.verdicts $(ARGS)

bench-completions: setup  ## Judge a file of completions as a run would, and as EvalPlus does where it is installed; ARGS='FILE --set SPEC'
	$(PY) -m benchmarks.completions $(ARGS)

bench-web: setup  ## Measure the viewer on a log of a million events (some minutes, the first time half an hour) into docs/benchmarks.md; ARGS='--help' lists options
	$(PY) -m benchmarks.web $(ARGS)

format: setup  ## Format and sort imports
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

drawn: setup  ## Draw the graph into the README, the facts into docs/log.md, estimates into configs and docs/estimates.md
	$(PY) -m graph.diagram README.md
	$(PY) -m events.reports.documents docs/log.md
	$(PY) -m trainer.command_page docs/commands.md
	$(PY) -m graph.estimate.plan configs/*.toml
	$(PY) -m graph.estimate.budget configs/paper-7b-4xh100.toml --into docs/estimates.md

lock: setup  ## Write requirements.lock from .venv
	(echo '# Exact versions of everything, used as pip constraints by the Makefile. Made by `make lock`.'; \
	 .venv/bin/pip freeze --exclude-editable | sed 's/+cpu//' | grep -v '@' | grep -vxF -f requirements.vllm.lock) > requirements.lock

clean:  ## Remove .venv and caches; runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
