# Every recipe works on a fresh Debian or Ubuntu machine that has rustup: `setup` installs what is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# nft and ip live where an ordinary user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TEST_LOG := $(TARGET_DIR)/test.log

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build demo test conformance conformance-kernel bench bench-quick soak lint fmt clean

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
	@# Compilers of other languages come and warm up meanwhile; what they are not done with is skipped.
	@nice -n 19 timeout 1200 examples/policies/build-all.sh >$(TARGET_DIR)/languages.log 2>&1 & \
	languages=$$!; trap 'kill $$languages 2>/dev/null || true' EXIT; \
	status=0; env -u CASES $(CARGO) test --workspace --no-fail-fast 2>&1 | tee $(TEST_LOG) || status=$$?; \
	awk -f scripts/test-summary.awk $(TEST_LOG); \
	exit $$status

conformance: setup ## packet cases on the simulator; CASES=FILE[,FILE] runs other files of the format and prints each case
	$(if $(CASES),CASES='$(CASES)') $(CARGO) test --quiet --package weir-tests --test conformance

conformance-kernel: setup ## the same cases as real packets through network namespaces; VERBOSE=1 prints each case
	$(if $(CASES),CASES='$(CASES)') $(CARGO) test --quiet --package weir-tests --test conformance-kernel

# SECTIONS=policy,daemon measures those only and keeps what was measured before of the others.
BENCH = $(CARGO) run --release --package weir-benches --bin weir-bench -- --out $(TARGET_DIR)/bench $(if $(SECTIONS),--only $(SECTIONS))

bench: setup ## everything beside kube-proxy's layouts, half an hour: docs/benchmarks.md, target/bench/; SECTIONS=NAME,… a part
	$(BENCH) --scale full --docs docs

bench-quick: setup ## the same in five minutes with fewer sizes and rounds: target/bench/report.md, summary.json
	$(BENCH) --scale quick

soak: setup ## a thousand reloads of a policy, which must leave the memory flat
	WEIR_RELOADS=$(or $(RELOADS),1000) $(CARGO) test --package weir --test reloads -- --nocapture

lint: setup ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## format every source file
	$(CARGO) fmt --all

clean: ## remove everything that was built
	$(CARGO) clean
