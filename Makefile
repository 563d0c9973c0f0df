# The only commands of this repository; people, hooks and CI run the same ones. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WHEELS := target/wheels
DIST := target/dist
BROKER ?=
ARGS ?=
# How many tests run at the same time: most of them wait for processes, so there are more than processors.
JOBS ?= 3

comma := ,

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1/p' Cargo.toml)
OS := $(shell uname -s)

# What `make wheel` builds for: this machine, unless TARGET names another of Rust's targets. On Linux zig links against the
# symbols of an old C library, so that the wheel is accepted where that is: glibc 2.17 (2014) or musl 1.2 (2020).
TARGET ?=
LIBC := $(if $(findstring musl,$(TARGET)),musllinux_1_2,manylinux_2_17)
ZIG := $(if $(filter Linux,$(OS)),--zig --compatibility $(LIBC))

# What the wheel is made of: it is built again only when one of these is newer than the installed one.
SOURCES := $(shell find rust python -type f \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.toml' -o -name '*.lua' \
	-o -name '*.sql' -o -name 'py.typed' \) 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml README.md
# Everything a Rust file is checked by.
RUST := $(filter rust/% Cargo.%,$(SOURCES))

DEV := $(VENV)/.dev-installed
WHEEL := $(VENV)/.wheel-installed
BENCH := $(VENV)/.bench-installed
DOCS := $(VENV)/.docs-installed

.PHONY: help setup wheel demo test test-rust test-python lint lint-rust lint-python docs bench soak chaos fuzz format clean \
	need-python need-rust need-redis need-rabbitmq

help: ## this list
	@echo "taskcore: make TARGET"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: need-rust $(DEV) $(WHEEL) ## virtual environment, tools, and taskcore built (minutes, the first time) and installed into it
	@echo "ready: source $(BIN)/activate && taskcore --help"

wheel: need-rust $(BIN)/python ## the wheel as it is published: small, for older Linux too; TARGET=x86_64-unknown-linux-musl for Alpine
	@echo "building the wheel$(if $(ZIG), for $(LIBC)): ten minutes the first time, the last crate alone takes several"
	@$(BIN)/pip install --quiet --disable-pip-version-check 'maturin[zig]>=1.9,<2'
	@rm -rf $(DIST)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --profile wheel --locked $(ZIG) $(if $(TARGET),--target $(TARGET)) \
		--interpreter $(BIN)/python --out $(DIST)
	@$(if $(filter Linux,$(OS)),$(BIN)/python tools/split_symbols.py $(DIST)/*.whl)
	@echo "ready: pip install $$(ls $(DIST)/*.whl)"

demo: $(WHEEL) ## a thousand real tasks through two worker processes; BROKER=redis://... for Redis
	@$(BIN)/python examples/stdlib_stats/run.py $(if $(BROKER),--broker '$(BROKER)') $(ARGS)

test: test-rust test-python ## all tests: cargo, then pytest through the installed wheel

test-rust: need-rust need-redis need-rabbitmq
	@echo "building the Rust tests: some minutes the first time"
	cargo test --workspace --no-run
	cargo test --workspace --quiet

test-python: $(DEV) $(WHEEL) need-redis need-rabbitmq
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: lint-rust lint-python ## formatting, clippy, ruff, types, the stub, import contracts, and the longest pieces

lint-rust: need-rust
	cargo fmt --all --check
	@echo "checking the Rust code: some minutes the first time"
	cargo clippy --workspace --all-targets -- -D warnings

lint-python: $(DEV) $(WHEEL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/python -m mypy.stubtest taskcore._core
	PYTHONPATH=python $(BIN)/lint-imports
	$(BIN)/python tools/longest.py

docs: $(WHEEL) $(DOCS) ## the site of the guide and the reference, into target/docs; a broken link is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs target/docs
	@echo "ready: target/docs/index.html"

bench: $(DEV) $(WHEEL) $(BENCH) need-redis ## every figure of benches/README.md, the peers beside taskcore; takes a while
	$(BIN)/python -m pytest benches/micro --benchmark-only --benchmark-columns=median,iqr,ops -q
	$(BIN)/python benches/figures $(ARGS)
	$(BIN)/python benches/harness.py $(ARGS)

soak: $(DEV) $(WHEEL) need-redis ## an hour of mixed load with a growing-memory check; MINUTES=60
	$(BIN)/python tests/crash/soak.py --minutes $(or $(MINUTES),60)

chaos: $(DEV) $(WHEEL) need-redis ## kills workers, children and brokers under load for MINUTES=10 and counts every task
	$(BIN)/python tests/crash/chaos.py --minutes $(or $(MINUTES),10)
	BEAT_KILLS=50 $(BIN)/python -m pytest -q tests/crash/test_beat.py

fuzz: need-rust ## searches every parser for what breaks it with libFuzzer, SECONDS=60 each
	command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
	@# The sanitizers are for nightly compilers; a stable one allows them when it is told that it bootstraps. Leaks are not
	@# looked for: the target with a runtime has tasks under way whenever somebody looks.
	for target in $$(cd fuzz && ls fuzz_targets | sed 's/\.rs$$//'); do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(or $(SECONDS),60) -rss_limit_mb=4096 -detect_leaks=0; done

format: need-rust $(DEV) ## formats Rust and Python in place
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

clean: ## removes everything that was built or installed here
	rm -rf $(VENV) target .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# Debian's PACKAGE, when the command CHECK fails; installed where that is ours to decide: $(call debian,CHECK,PACKAGE)
define debian
if ! { $(1); } >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "installing $(2) (Debian package)"; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ apt-get install -y -q $(2) || { apt-get update -q && apt-get install -y -q $(2); }; } >/dev/null; \
fi
endef

need-python:
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) 3.11 or later; name another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "missing: Python 3.11 or later ($(PYTHON) is $$($(PYTHON) -V)); name another with PYTHON=..." >&2; exit 1; }
	@$(call debian,$(PYTHON) -c 'import ensurepip$(comma) venv',python3-venv)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "missing: Python's venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }

need-rust:
	@command -v cargo >/dev/null || { echo "missing: Rust $(MSRV) or later (cargo); see https://rustup.rs" >&2; exit 1; }
	@have=$$(rustc --version | cut -d ' ' -f 2); [ "$$(printf '%s\n' $(MSRV) "$${have%%-*}" | sort -V | head -n 1)" = $(MSRV) ] \
		|| { echo "missing: Rust $(MSRV) or later (rustc is $$have); run: rustup update" >&2; exit 1; }
	@$(call debian,command -v cc,gcc libc6-dev)
	@command -v cc >/dev/null || { echo "missing: a C compiler (cc); on Debian: apt-get install gcc libc6-dev" >&2; exit 1; }

# Without a server its tests are skipped, and fail in CI.
need-redis:
	@$(call debian,command -v redis-server,redis-server)
	@command -v redis-server >/dev/null \
		|| echo "missing: redis-server; what needs it is skipped (on Debian: apt-get install redis-server)" >&2

need-rabbitmq:
	@$(call debian,test -x /usr/lib/rabbitmq/bin/rabbitmq-server,rabbitmq-server)
	@test -x /usr/lib/rabbitmq/bin/rabbitmq-server \
		|| echo "missing: rabbitmq-server; what needs it is skipped (on Debian: apt-get install rabbitmq-server)" >&2

$(BIN)/python: | need-python
	@echo "creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'

$(DEV): pyproject.toml | $(BIN)/python
	@echo "installing development tools into $(VENV): a minute"
	@$(BIN)/pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(WHEEL): $(SOURCES) | need-rust $(BIN)/python
	@echo "building taskcore (release) and installing it into $(VENV): some minutes the first time"
	@$(BIN)/pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
	@rm -rf $(WHEELS)
	$(BIN)/maturin build --release --interpreter $(BIN)/python --out $(WHEELS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(WHEELS)/*.whl
	@$(BIN)/pip install --quiet --disable-pip-version-check $(WHEELS)/*.whl
	@touch $@

$(BENCH): pyproject.toml | $(BIN)/python
	@echo "installing benchmark tools into $(VENV)"
	@$(BIN)/pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --group bench
	@touch $@

$(DOCS): pyproject.toml | $(BIN)/python
	@echo "installing the generator of the docs into $(VENV)"
	@$(BIN)/pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --group docs
	@touch $@
