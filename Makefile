# Touchstone. `make run` shows it at work, `make test` tests it; both set everything up.
.DEFAULT_GOAL := help
.SILENT:
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# As the services do: what runs beside each other takes one thread for its sums.
export OPENBLAS_NUM_THREADS ?= 1
# Processes that share the test modules among them.
TEST_PROCESSES ?= 2

CONTRACTS := $(shell find protos -name '*.proto') protos/compile.py clients/python/hatch_build.py
# A stamp is made anew when what it depends on has changed.
RUN_READY := .venv/.run-ready
DEV_READY := .venv/.dev-ready
STUBS := build/.stubs

.PHONY: help run up test check format proto contracts lock bench robustness clean
.PHONY: audit-dependencies release openfeature calibration

help: ## Show this list
	grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-20s %s\n", $$1, $$2}'

$(RUN_READY): requirements/run.txt pyproject.toml deploy/setup.sh
	sh deploy/setup.sh $(PYTHON) requirements/run.txt
	touch $@

$(DEV_READY): requirements/dev.txt $(RUN_READY)
	sh deploy/setup.sh $(PYTHON) requirements/dev.txt
	touch $@

$(STUBS): $(CONTRACTS) | $(RUN_READY)
	$(BIN)/python protos/compile.py stubs shared/gen
	$(BIN)/python clients/python/hatch_build.py
	mkdir -p build && touch $@

run: $(RUN_READY) $(STUBS) ## Install, then play an experiment and customer journeys through the four services
	$(BIN)/touchstone tutorial

up: $(RUN_READY) $(STUBS) ## Install, then keep the four services running until Ctrl-C
	$(BIN)/touchstone up

test: $(DEV_READY) $(STUBS) ## Install, then run every test
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

check: $(DEV_READY) $(STUBS) contracts ## Format, lint, types, import contracts, protobuf, deployment files
	ruff format --check .
	ruff check .
	mypy services shared clients tests protos/compile.py
	lint-imports
	yamllint -s .
	shellcheck deploy/*.sh .ci/run
	hadolint deploy/Containerfile
	check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/python -m pytest -q tests/docs/test_docs_reference.py

contracts: $(DEV_READY) $(STUBS) ## Lint the contracts and compare them with the last release
	$(BIN)/python protos/compile.py image build/contracts.binpb
	$(BIN)/python protos/compile.py released-image build/released.binpb
	buf lint build/contracts.binpb --config buf.yaml
	buf breaking build/contracts.binpb --against build/released.binpb --config buf.yaml

proto: $(RUN_READY) ## Generate the stubs anew
	$(BIN)/python protos/compile.py stubs shared/gen
	$(BIN)/python clients/python/hatch_build.py
	mkdir -p build && touch $(STUBS)

format: $(DEV_READY) ## Format the code and mend what the linter can
	ruff format .
	ruff check --fix .

bench: $(DEV_READY) $(STUBS) ## Measure against peers and limits; writes build/bench.json
	$(BIN)/python -m tests.bench

openfeature: $(DEV_READY) $(STUBS) ## Compare clients of OpenFeature with the service on 20,000 units
	TOUCHSTONE_OPENFEATURE_UNITS=20000 $(BIN)/python -m pytest -q -s tests/openfeature

robustness: $(DEV_READY) $(STUBS) ## Break it on purpose; writes build/robustness.json
	$(BIN)/python -m tests.robustness

calibration: $(DEV_READY) $(STUBS) ## Simulate what the statistics promise; writes docs/reference/calibration.md
	$(BIN)/python -m tests.calibration --long

audit-dependencies: $(DEV_READY) ## Look for known vulnerabilities in the locked dependencies
	pip-audit --disable-pip -r requirements/run.txt

release: $(RUN_READY) ## Keep the contracts as they are now as those of the last release
	$(BIN)/python protos/compile.py release protos/released.binpb

lock: ## Resolve the dependencies anew
	sh deploy/lock.sh $(PYTHON)

clean: ## Remove everything that was made
	rm -rf .venv build shared/gen clients/python/*/contract.binpb clients/python/*/*/contract.binpb .touchstone .pytest_cache .mypy_cache .ruff_cache
