# Two commands on a fresh machine: `make demo` runs the main job on a real model, `make test` passes the tests.
# Both make their own virtual environment and install everything, compilers aside.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.apr-installed

.PHONY: demo test test-all check fuzz docs clean

demo: $(VENV)/.apr-core
	@scripts/demo $(BIN)

test: $(STAMP) check
	scripts/test $(BIN)

test-all: $(STAMP) check
	scripts/test $(BIN) --all

check: $(STAMP)
	scripts/check $(BIN)

fuzz: $(STAMP)
	scripts/fuzz $(BIN)

docs: $(STAMP)
	$(BIN)/python scripts/render_docs.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.apr-core: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(STAMP): $(VENV)/.apr-core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[oracle,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
