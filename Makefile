# Each target sets up what it needs (.venv from hash-locked requirements, the image) and works offline once that is done.
# A machine needs only Python >= 3.11 and make. PYTHON=/path chooses the interpreter, JOBS=n the test processes.
.DEFAULT_GOAL := help
.PHONY: help setup image demo quick test test-all check format bench fuzz soak wheel lock clean
MAKEFLAGS += --no-print-directory

JOBS ?= 2
BIN := .venv/bin
RUN := $(BIN)/python
# -P: the checkout's folders `agents` and `runtime` must not shadow installed packages of these names
PYTEST := $(BIN)/python -P -m pytest
PYRIGHT := $(BIN)/deno run --quiet --allow-all --config requirements/pyright.json npm:pyright@1.1.414/pyright

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## Make .venv from the locked requirements (seconds when it already stands)
	@sh scripts/setup.sh

image: setup ## Build the image that guests run in (about 3 minutes, once per change of the guest)
	@$(RUN) scripts/ensure_image.py

demo: image ## An agent solves a task with host tools; then three attacks and what they got. No key, no server
	@$(RUN) examples/demo.py

quick: setup ## Unit and property tests that need no image and no Deno
	@$(PYTEST) -q -n $(JOBS) -m "not wasmtime and not deno and not slow and not exhaustive" tests/unit tests/property

test: image ## The suite, at most 15 minutes on two cores
	@$(PYTEST) -q -n $(JOBS) -m "not bench and not exhaustive"

test-all: image ## The suite and its long tests
	@$(PYTEST) -q -n $(JOBS) -m "not bench"

check: setup ## Format, lint, types: what a change must pass
	@echo "check: ruff format"; $(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@echo "check: ruff"; $(BIN)/ruff check --quiet .
	@echo "check: mypy"; $(BIN)/mypy --no-error-summary
	@echo "check: pyright"; $(PYRIGHT) --pythonpath $(BIN)/python
	@if [ -f scripts/gen_protocol.py ]; then echo "check: protocol"; $(RUN) scripts/gen_protocol.py --check; fi
	@if grep -qs '"ok"' deno_host/deno.json; then echo "check: deno task ok"; cd deno_host && ../$(BIN)/deno task --quiet ok; fi
	@echo "check: advisories"; $(RUN) scripts/check_advisories.py --quiet
	@echo "check: clean"

format: setup ## Let ruff rewrite the files
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: image ## Measure; prints a table and writes bench-results/bench.json
	@$(RUN) -m tests.bench

fuzz: image ## Play the worker and the guest against the host, long (COUNT=frames, SECONDS=import calls)
	@$(RUN) -m tests.fuzz.frames --count $(or $(COUNT),1000000) --seed $(or $(SEED),1)
	@$(RUN) -m tests.fuzz.frames --live 2000 --seed $(or $(SEED),1)
	@$(RUN) -m tests.fuzz.import_calls $(or $(SECONDS),120) $(or $(SEED),1)

soak: image ## Good, bad and malicious sandboxes of 8 tenants at once, workers killed at random (SECONDS=600)
	@$(RUN) -m tests.soak --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

wheel: image ## Build sdist and wheel (with the image inside) into dist/
	@rm -rf build dist
	@$(RUN) -P -c "from cloche.wasm_sandbox.image.deno_script import pack_scripts; pack_scripts()"
	@# two builds: a wheel made from the sdist would lack the image
	@$(RUN) -P -m build --no-isolation --outdir dist --sdist . >/dev/null && $(RUN) -P -m build --no-isolation --outdir dist --wheel . >/dev/null
	@ls -l dist

lock: setup ## Resolve requirements/dev.txt and requirements/pyright.lock anew (UPGRADE=1: newer releases)
	@sh scripts/lock.sh

clean: ## Remove what the targets made, .venv included
	rm -rf .venv build dist bench-results .mypy_cache .ruff_cache .pytest_cache .hypothesis .image-build
	rm -f wasm_sandbox/image.wasm wasm_sandbox/image.wasm.inputs wasm_sandbox/deno_scripts.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
