# make run: prepare a demo tree.  make test: all gates and tests.  make bench: measure speed.
# make bench-scale: measure runs with little to do on up to 100,000 measurements (a part of make bench).
# make docs: the documentation as a site, in site/.
# make bench-upload: measure uploads against a DCOR server started here (OPTIONS='--eight 50 --large 400' for less).
# make crash: kill 100 runs at random moments, start them again, compare (OPTIONS='--trials 20 --seed 7').
# Each target sets up what it needs in .venv, from the exact versions in requirements.lock.
SHELL := /bin/bash
PYTHON ?= $(shell for python in python3.12 python3.11 python3.13 python3; do \
	$$python -c 'import ensurepip' 2> /dev/null && echo $$python && break; done)
BIN := .venv/bin
JOBS ?= all

.PHONY: run test gates docs bench bench-scale bench-upload crash clean

.venv/ready: requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed; on Debian: apt install python3-venv"; exit 1; }
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

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html, or for its search: $(BIN)/python -m http.server --directory site --bind 127.0.0.1"

test: gates
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: .venv/ready
	$(BIN)/python scripts/bench.py

bench-scale: .venv/ready
	$(BIN)/python scripts/bench.py --only scale $(OPTIONS)

bench-upload: .venv/ready
	$(BIN)/python scripts/bench.py --only upload $(OPTIONS)

crash: .venv/ready
	$(BIN)/python scripts/crash_test.py $(OPTIONS)

clean:
	rm -rf demo site bench/work .pytest_cache .mypy_cache .ruff_cache
