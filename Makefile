# Every recipe works on a fresh Debian or Ubuntu machine that has rustup: `setup` installs what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# nft and ip live where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TEST_LOG := $(TARGET_DIR)/test.log

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build demo test conformance conformance-kernel bench soak lint fmt clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: ## install what building and testing need, if it is missing
	@scripts/setup.sh

setup-tests: ## the same, and the servers and clients of the end-to-end tests
	@scripts/setup.sh tests

build: setup ## the daemon and the command line, target/debug/weir
	$(CARGO) build --package weir

demo: setup ## a small node out of network namespaces, real connections through it, in a minute
	$(CARGO) build --package weir
	@$(TARGET_DIR)/debug/weir demo

test: setup-tests ## every test; REQUIRE_NETNS=1 makes a machine without namespaces a failure
	@mkdir -p $(TARGET_DIR)
	@scripts/deploy-tools.sh $(TARGET_DIR)/deploy-tools || true
	@status=0; env -u CASES $(CARGO) test --workspace --no-fail-fast 2>&1 | tee $(TEST_LOG) || status=$$?; \
	awk -f scripts/test-summary.awk $(TEST_LOG); \
	exit $$status

conformance: setup ## packet cases on the simulator; CASES=FILE[,FILE] runs other files of the format
	$(if $(CASES),CASES='$(CASES)') $(CARGO) test --quiet --package weir-tests --test conformance

conformance-kernel: setup ## the same cases as real packets through network namespaces; VERBOSE=1 prints each case
	$(if $(CASES),CASES='$(CASES)') $(CARGO) test --quiet --package weir-tests --test conformance-kernel

bench: setup ## the criterion benches, optimised
	$(CARGO) bench --package weir-benches

soak: setup ## a thousand reloads of a policy, which must leave the memory flat
	WEIR_RELOADS=$(or $(RELOADS),1000) $(CARGO) test --package weir --test reloads -- --nocapture

lint: setup ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## format every source file
	$(CARGO) fmt --all

clean: ## remove everything that was built
	$(CARGO) clean
