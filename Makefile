# Every command of the project; `make` alone lists them.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install install-dev system demo test check bench soak lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(VENV)/.installed ## .venv with the `park` command, from the hashed lock

install-dev: $(VENV)/.installed-dev

demo: install ## the whole platform here, with a simulated park (ARGS="--days 365 --port 8000")
	@exec $(BIN)/park demo $(ARGS)

test: install-dev system ## every test, on a real database, broker, sockets and browser
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: install-dev ## lint, types and layout
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py

bench: install-dev ## figures beside their limits, in one run
	$(BIN)/python -m bench $(ARGS)

soak: install-dev system ## the long fault tests
	$(BIN)/python -m pytest -m soak --timeout=3600 $(ARGS)

lock: ## write the hashed locks again (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra grafana pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove the environment; data stay
	rm -rf $(VENV)

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/.python
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	@scripts/link $(VENV)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml | $(VENV)/.python
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements-dev.lock
	@scripts/link $(VENV)
	@touch $@ $(VENV)/.installed

# Chromium, CJK fonts, document viewers and mosquitto for the tests that look at real pages and documents
system:
	@scripts/system-packages
