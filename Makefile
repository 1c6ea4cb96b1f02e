# Every target but `help` installs what it needs by itself, into .venv.
#   make install TORCH=cuda|cpu     which build of torch (default: cuda where an NVIDIA GPU is seen)
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= auto
# Which build was installed is remembered: no other target may bring another one.
KNOWN := $(patsubst $(VENV)/.installed-%,%,$(firstword $(wildcard $(VENV)/.installed-*)))
BUILD := $(if $(filter auto,$(TORCH)),$(or $(KNOWN),auto),$(TORCH))
STAMP := $(VENV)/.installed-$(BUILD)
PYTEST := $(BIN)/python -m pytest
JOBS ?= 2
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export DO_NOT_TRACK = 1

.PHONY: help install demo test test-slow test-slurm docs walks pictures bench bench-quick check format cov server worker viewer deploy lock lock-added clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(STAMP)  ## Make .venv from the lock

$(STAMP): requirements.lock requirements-dev.lock requirements-torch-cpu.lock requirements-torch-cuda.lock pyproject.toml deployments/install.sh
	PYTHON=$(PYTHON) VENV=$(VENV) TORCH=$(BUILD) bash deployments/install.sh

demo: install  ## Two iterations on real scans, and a report (under 10 minutes)
	$(BIN)/python data/examples/demo.py

test: install  ## Every test but the slow proofs, two at a time (about 11 minutes; JOBS=1: one)
	$(PYTEST) -n $(JOBS) --dist loadscope --no-loadscope-reorder --durations 10

test-slow: install  ## The slow proofs: damaged files, kills, whole lineages, simulated labs (about 40 minutes)
	$(PYTEST) -m slow $(MORE)

bench: install  ## Measure against the peers; writes tests/bench/report.md (two hours, 40 GB; stopped, it goes on)
	PYTHONPATH=.:tests:tests/slurm:data/examples $(BIN)/python tests/bench/run.py

bench-quick: install  ## Four of its parts with few cases, each side once, printed only (10 minutes)
	PYTHONPATH=.:tests:tests/slurm:data/examples $(BIN)/python tests/bench/run.py --quick

check: install  ## ruff, format, types, and the rule of imports
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: install  ## Let ruff write the format
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

cov: install  ## The tests with coverage
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

test-slurm: install  ## Folds and nights on a real Slurm of two nodes (about 26 minutes)
	$(PYTEST) -m slurm $(MORE)

docs: install  ## Write the pages of docs/ that follow from the code
	$(BIN)/python deployments/reference.py

walks: install  ## What docs/ say, done as they say it by a newcomer: tutorial, cluster, change (about 10 minutes)
	PYTHONPATH=.:tests:tests/slurm $(BIN)/python tests/walks/walk.py $(PAGE)

pictures: install  ## Take the pictures of docs/ anew: a night on a real Slurm, the report, OHIF, in a real browser
	PYTHONPATH=.:tests:tests/slurm:tests/browser $(BIN)/python tests/browser/screenshots.py

server: install  ## Prefect's server and UI on http://127.0.0.1:4200
	VENV=$(VENV) bash deployments/server.sh

viewer: install  ## OHIF on a DICOMweb server (ITERSEG_DICOMWEB=…), on http://127.0.0.1:3000
	bash deployments/viewer/fetch.sh
	$(BIN)/python deployments/viewer/serve.py

worker: install  ## A worker that starts the runs of the deployments, on this machine
	PREFECT_WORKER_QUERY_SECONDS=$${PREFECT_WORKER_QUERY_SECONDS:-30} $(BIN)/prefect worker start --pool iterseg --type process

deploy: install  ## Put deployments, schedules and notifications on the server
	$(BIN)/python deployments/deploy.py

lock: install  ## Resolve the locks anew from pyproject.toml
	$(BIN)/python deployments/lock.py

lock-added: install  ## Add to the locks what pyproject.toml asks for besides
	$(BIN)/python deployments/lock.py --keep

clean:  ## Remove .venv and caches; data stays
	@case '$(VENV)' in .venv) ;; *) echo 'error: clean removes .venv only; $(VENV) is for you to remove' >&2; exit 2 ;; esac
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
