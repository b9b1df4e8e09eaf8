# The commands of this repository. Each sets up .venv first, if it is not there or out of date.

PYTHON ?= python3

BIN := .venv/bin
# The tests start Python hundreds of times, and it would compile everything each time.
unexport PYTHONDONTWRITEBYTECODE

# Two for each core of a small machine, since many tests wait. More would only collect once more.
WORKERS ?= 4
EXPLORE_S ?= 300
READY := .venv/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo docs explore test coverage lint types format bench faults constraints clean \
  install-systemd test-systemd

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## start the daemon with integrationd.toml; its state is kept in ./var
	@exec $(BIN)/integrationd run --config integrationd.toml

demo: $(READY) ## M-Pesa payments against a sandbox of its own, see docs/payments.md
	@exec $(BIN)/python -m tests.money.demo

test: lint ## the whole gate: lint, then the tests
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

coverage: $(READY) ## the tests, twice as slow, and how much of the code they run
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(READY) ## format, style, types, layers, dependencies and spelling; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell

types: $(READY) ## types alone
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the common format, and mend what can be mended by rule
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY) ## measure speed against the libraries that people use instead
	$(BIN)/pytest -m bench --capture=no --timeout=1800 tests/bench

faults: $(READY) ## the slow suites: kills, payments over a bad link, churn, endless plugins; FAULTS=DIR for some
	$(BIN)/pytest -m slow --timeout=1800 $(FAULTS)

docs: $(READY) ## write docs/api.md from the API's own OpenAPI document
	$(BIN)/python -m tests.docs.api_reference

explore: $(READY) ## schemathesis against the live daemon, all phases, for EXPLORE_S seconds
	INTEGRATIOND_EXPLORE_S=$(EXPLORE_S) $(BIN)/pytest -m slow --timeout=$$(( $(EXPLORE_S) + 600 )) \
	  tests/hostile/test_schemathesis.py

install-systemd: ## as root: install the daemon for systemd; see docs/systemd.md
	@systemd/install

test-systemd: $(READY) ## as root: the daemon in a systemd of its own, in a container
	$(BIN)/pytest -m systemd --timeout=600 tests/systemd

constraints: ## resolve the dependencies anew and write constraints.txt
	@$(MAKE) --no-print-directory clean
	@: > constraints.txt
	@$(MAKE) --no-print-directory $(READY)
	@$(BIN)/python -m pip freeze --all --exclude-editable --exclude setuptools > constraints.txt
	@touch $(READY)

clean: ## remove .venv and whatever the tools have made; ./var stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf .coverage .coverage.* htmlcov dist
	find daemon plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when the dependencies or the version have changed. Without build isolation, so that the
# build tool comes from constraints.txt like everything else; with the bench group, since its code is
# type-checked too.
$(READY): pyproject.toml constraints.txt daemon/integrationd/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "integrationd needs Python 3.11 or newer, and '$(PYTHON)' is not." >&2; \
	  echo "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu:" >&2; \
	  echo "apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv ..."
	@$(PYTHON) -m venv --clear .venv
	@$(INSTALL) --upgrade --constraint constraints.txt pip hatchling
	@$(INSTALL) --constraint constraints.txt --no-build-isolation \
	  --group dev --group bench --editable .
	@touch $@
