# Two commands on a fresh machine: `make demo` runs the main job on a real model, `make test` passes the tests.
# Both make their own virtual environment and install everything, compilers aside.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CORE   := $(VENV)/.apr-core
STAMP  := $(VENV)/.apr-installed

.PHONY: demo test test-all check fuzz mutants bench sanitize wheel docs clean humaneval

demo: $(CORE)
	@scripts/demo $(BIN)

test: $(STAMP) check
	scripts/test $(BIN)

test-all: $(STAMP) check
	scripts/test $(BIN) --all

check: $(STAMP)
	scripts/check $(BIN)

fuzz: $(STAMP)
	scripts/fuzz $(BIN)

# defects planted in healthy models: how many are noticed, named and placed; ARGS=--real for the real models
mutants: $(STAMP)
	scripts/mutants $(BIN) $(ARGS)

bench: $(STAMP)
	scripts/bench $(BIN)

# all 164 problems, both prompt regimes; killed, it goes on where it stopped. MODEL=smollm2 for another, ARGS=--json …
MODEL ?= qwen2.5-coder:0.5b
humaneval: $(STAMP)
	$(BIN)/apr eval $(MODEL) --task humaneval $(ARGS)

# the kernel tests, with every memory access and every integer operation of the kernels checked
sanitize: $(STAMP)
	scripts/sanitize $(BIN)

wheel: $(CORE)
	scripts/wheel $(BIN)

docs: $(STAMP)
	$(BIN)/python scripts/render_docs.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# the order-only prerequisite: a change of the kernels compiles them, and does not look at every dependency again
$(CORE): pyproject.toml CMakeLists.txt $(shell find csrc -type f) scripts/build | $(BIN)/python
	scripts/build $(BIN)
	@touch $@

$(STAMP): pyproject.toml | $(CORE)
	scripts/build $(BIN) '[oracle,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/apr/kernels/_native.*.so .pytest_cache .mypy_cache .ruff_cache
