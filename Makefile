# make run: prepare a demo tree.  make test: all gates and tests.  make bench: measure speed.
# Each target sets up what it needs in .venv, from the exact versions in requirements.lock.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || command -v python3)
BIN := .venv/bin
JOBS ?= all

.PHONY: run test gates bench clean

.venv/ready: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	rm -f .venv/ready
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python scripts/link_package.py
	touch .venv/ready

demo/config.yaml: .venv/ready
	$(BIN)/python scripts/demo.py demo

run: demo/config.yaml
	@$(BIN)/snakemake --snakefile Snakefile --directory demo --configfile demo/config.yaml --cores $(JOBS)
	@$(BIN)/python scripts/demo.py demo --table

gates: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python scripts/lint.py

test: gates
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: .venv/ready
	$(BIN)/python scripts/bench.py

clean:
	rm -rf demo bench/work .pytest_cache .mypy_cache .ruff_cache
