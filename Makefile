# Everything a person or CI does here. GNU Make 3.81 (macOS) is enough: no .ONESHELL, no grouped targets.
#
# .venv holds agentmem in editable mode; .proto-venv holds the stub generator, which needs an older protobuf.
# Files named .venv/.* say what was installed, so that a second run starts at once.

PYTHON ?=
ARGS   ?=
AGAINST ?= origin/main

BIN    := .venv/bin
PROTO  := .proto-venv/bin
STUBS  := build/stubs
PIP     = -m pip install --disable-pip-version-check --no-input
PROTOC  = $(PROTO)/python -m grpc_tools.protoc -I proto proto/agentmem/v1/*.proto

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak lint format bench train proto proto-check clean

help:
	@echo 'make demo         the main job: three agents remember across a SIGKILL   (ARGS=--fresh begins anew)'
	@echo 'make test         the tests of the gate; ARGS="-k name" picks some'
	@echo 'make test-all     the slow ones as well'
	@echo 'make soak         the long ones only'
	@echo 'make lint         ruff, mypy, buf lint;   make format puts the code in order'
	@echo 'make bench        time to first token, recall, the store, many agents at once and together, as JSON'
	@echo 'make proto        writes the stubs in agentmem/v1 from proto/'
	@echo 'make proto-check  fails if those stubs are stale or the contract breaks against AGAINST ($(AGAINST))'
	@echo 'make train        trains the embedded model in build/embedded (hours of CPU)'
	@echo 'make clean        removes environments and caches; build/ stays'
	@echo
	@echo 'PYTHON=/path/to/python3 chooses the interpreter (3.11 or newer).'

demo: .venv/.daemon
	@$(BIN)/agentmem demo $(ARGS)

test: .venv/.dev
	$(BIN)/python -m pytest tests $(ARGS)

test-all: .venv/.dev
	$(BIN)/python -m pytest tests -m 'not soak' $(ARGS)

soak: .venv/.dev
	$(BIN)/python -m pytest tests -m soak $(ARGS)

lint: .venv/.dev .proto-venv/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd proto && ../$(PROTO)/buf lint

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.daemon
	$(BIN)/python -m benchmarks.ttft --json
	$(BIN)/python -m benchmarks.recall --json
	$(BIN)/python -m benchmarks.store --json
	$(BIN)/python -m benchmarks.prefill --json
	$(BIN)/python -m benchmarks.batching --json
	$(BIN)/python -m benchmarks.latent --json
	$(BIN)/python -m benchmarks.documents --json

train: .venv/.train
	$(BIN)/python -m training.train --out build/embedded $(ARGS)

proto: .proto-venv/.tools
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=.

proto-check: .proto-venv/.tools
	@rm -rf $(STUBS) && mkdir -p $(STUBS)/agentmem/v1 && touch $(STUBS)/agentmem/v1/__init__.py
	$(PROTOC) --python_out=$(STUBS) --pyi_out=$(STUBS) --grpc_python_out=$(STUBS)
	@diff -rq -x __pycache__ $(STUBS)/agentmem/v1 agentmem/v1 || { echo 'Stubs are stale: run make proto.' >&2; exit 1; }
	cd proto && ../$(PROTO)/buf lint
	@if git rev-parse --quiet --verify '$(AGAINST):proto' >/dev/null 2>&1; then \
	  echo 'buf breaking against $(AGAINST)'; \
	  $(PROTO)/buf breaking proto --against ".git#ref=$$(git rev-parse '$(AGAINST)'),subdir=proto"; \
	else \
	  echo 'No $(AGAINST) with a contract: buf breaking skipped.'; \
	fi

clean:
	rm -rf .venv .proto-venv $(STUBS) dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp is touched last, so an install that was cut short is done again.

.venv/.made .proto-venv/.made:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(@D) with $$python"; \
	    rm -rf '$(@D)' && "$$python" -m venv '$(@D)' && touch '$@' && exit 0; exit 1; \
	  fi; \
	done; \
	echo 'agentmem needs Python 3.11 or newer, with venv; found: $(or $(PYTHON),python3) =' \
	  "$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1)." 'Choose one with: make PYTHON=/path/to/python3 ...' >&2; \
	exit 1

.venv/.daemon: .venv/.made pyproject.toml
	$(BIN)/python $(PIP) -e '.[daemon]'
	@touch $@

.venv/.dev: .venv/.made pyproject.toml
	$(BIN)/python $(PIP) -e '.[daemon,dev]'
	@touch .venv/.daemon $@

.venv/.train: .venv/.made pyproject.toml
	$(BIN)/python $(PIP) -e '.[train]'
	@touch $@

# grpcio-tools 1.71.2 needs protobuf < 6, and its stubs import on protobuf 5.29, 6 and 7.
.proto-venv/.tools: .proto-venv/.made Makefile
	$(PROTO)/python $(PIP) 'grpcio-tools==1.71.2' 'buf-bin>=1.75,<2'
	@touch $@
