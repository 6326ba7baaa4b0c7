# `make help` lists the targets. Everything is installed into .venv; nothing is left running.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes
ONCE ?=
PORT ?= 8000
DATA_DIR ?= .data
MINUTES ?= 20
SEED ?= 3
RATE ?=
WRITE ?=
JOBS ?= 2

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | while IFS="$$(printf '\t')" read -r t d; do printf '  make %-8s %s\n' "$$t" "$$d"; done

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 with venv is needed (Debian: apt-get install python3-venv); set PYTHON=… if it is not on PATH." >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) …"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python requirements/run.txt pyproject.toml
	@echo "Installing what the service needs …"
	@$(PIP) -r requirements/run.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "Installing what the tests need …"
	@$(PIP) -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.run  ## The whole service on this machine: sends for real, breaks things, shows nothing is lost (ONCE=1 stops after the show)
	@$(BIN)/notifier demo $(if $(ONCE),--once,)

up: $(VENV)/.run  ## Everything on this machine until Ctrl-C (DATA_DIR=.data PORT=8000)
	@$(BIN)/notifier up --data-dir $(DATA_DIR) --port $(PORT)

dev: $(VENV)/.dev  ## The same with everything started anew when its code or a template changes (DATA_DIR=.data PORT=8000)
	@$(BIN)/notifier up --reload --data-dir $(DATA_DIR) --port $(PORT)

test: $(VENV)/.dev  ## Every test but the long ones and those of other brokers and poolers, with real PostgreSQL, Valkey and workers (JOBS=2 processes)
	@$(BIN)/python -m pytest tests --ignore=tests/brokers --ignore=tests/pooler -m "not full" -n $(JOBS) --dist loadgroup --no-loadscope-reorder

lint: $(VENV)/.dev  ## ruff, mypy --strict, import rules, file sizes, templates
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tests.rules
	@$(BIN)/notifier templates check templates

check: lint test  ## What CI runs

faults: $(VENV)/.dev  ## Every fault test, the long ones, too, and a table of them (SEED=3 JOBS=2; WRITE=1 puts it into docs/guarantees.md)
	@rm -f build/faults.md; status=0; \
	  NOTIFIER_TEST_SEED=$(SEED) NOTIFIER_FAULTS_TABLE=build/faults.md $(BIN)/python -m pytest tests/faults tests/upgrade -n $(JOBS) --dist loadfile --no-loadscope-reorder || status=$$?; \
	  $(BIN)/python -m tests.faults.table build/faults.md $(if $(WRITE),--write,) && exit $$status

full: $(VENV)/.dev  ## Only what make test leaves out, wherever it is
	@$(BIN)/python -m pytest tests -m full

brokers: $(VENV)/.dev  ## The whole service on RabbitMQ (Debian: apt-get install rabbitmq-server), SQS and kinds of Redis, and a table (WRITE=1 puts it into docs/brokers.md)
	@rm -f build/brokers.md; status=0; \
	  NOTIFIER_BROKERS_TABLE=build/brokers.md $(BIN)/python -m pytest tests/brokers || status=$$?; \
	  $(BIN)/python -m tests.brokers.ledger build/brokers.md $(if $(WRITE),--write,) && exit $$status

pooler: $(VENV)/.dev  ## The whole service behind PgBouncer, on PATH or else taken from Debian's package (no root)
	@PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null || { test -x build/pgbouncer/usr/sbin/pgbouncer || \
	  (mkdir -p build/pgbouncer && cd build/pgbouncer && apt-get download pgbouncer libc-ares2 libevent-2.1-7 && for deb in *.deb; do dpkg-deb -x $$deb .; done); }; \
	  PATH="$$PATH:$(CURDIR)/build/pgbouncer/usr/sbin" LD_LIBRARY_PATH="$$(ls -d $(CURDIR)/build/pgbouncer/usr/lib/*-linux-gnu 2>/dev/null)" \
	  $(BIN)/python -m pytest tests/pooler

soak: $(VENV)/.dev  ## The whole service under load while something breaks every 20 s (MINUTES=20 SEED=1 RATE=a second)
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) $(if $(RATE),--rate $(RATE),)

bench: $(VENV)/.dev  ## Measure intake and delivery; docs/benchmarks.md explains the figures
	@$(BIN)/python -m tests.bench

scaling: $(VENV)/.dev  ## Simulate what was measured, then what was not (WRITE=1 puts tables and charts into docs/scaling.md)
	@$(BIN)/python -m tests.scaling $(if $(WRITE),--write,)

lock: $(BIN)/python  ## Make requirements/*.txt anew from pyproject.toml (needs uv on PATH; UPGRADE=1 for newer releases)
	@for pair in 'embedded --extra sources:run' 'sandbox --extra sources --extra sentry --extra otel --extra sqs:image' dev:dev; do uv pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra $${pair%%:*} pyproject.toml requirements/build.in -o requirements/$${pair##*:}.txt; done

clean:  ## Remove the environment, caches and local data
	rm -rf $(VENV) .data build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help demo up dev test lint check faults full brokers pooler soak bench scaling lock clean
