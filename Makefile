# What a person types. The work is in scripts/, each of which can be read and run alone.
#
#   make up [PORT=8080] [PROFILE=dev] [DRY_RUN=1] [HEARTH_STATE_DIR=DIR]

SHELL := /bin/bash
.DEFAULT_GOAL := help

PORT ?= 8080
PROFILE ?= release
DRY_RUN ?=
FUZZ_SECONDS ?= 60
export PORT PROFILE DRY_RUN

.PHONY: help
help: ## this list
	@echo "Hearth: a self-hosted serverless function platform."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  DRY_RUN=1 shows the steps of 'make up' and does none; PORT=9000 listens elsewhere."

.PHONY: up
up: ## install what is missing, build, start, deploy the templates, call them
	@scripts/up.sh

.PHONY: down
down: ## stop what 'make up' started; deployed functions are kept
	@scripts/down.sh

.PHONY: env
env: ## shell settings for the running instance: eval "$(make -s env)"
	@scripts/instance.sh env

.PHONY: logs
logs: ## follow the log of the running instance
	@scripts/instance.sh logs

.PHONY: doctor
doctor: ## check Docker, cgroups, mounts, images, disk and ports
	@cargo run --quiet --locked --profile $(PROFILE) --bin hearth -- doctor

.PHONY: test
test: ## everything that is checked: fmt, clippy, all tests, the README's commands
	@scripts/test.sh

.PHONY: fuzz
fuzz: ## fuzz everything that reads what comes from outside [FUZZ_SECONDS=60]
	@scripts/fuzz.sh $(FUZZ_SECONDS)

.PHONY: lint
lint: ## rustfmt and clippy, warnings denied
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

.PHONY: fmt
fmt: ## format the sources
	cargo fmt

.PHONY: bench
bench: ## what a call costs, beside what it could cost at best
	@scripts/bench.sh

.PHONY: flame
flame: ## flame graph of the warm path under load: target/flame.svg
	@scripts/flame.sh

.PHONY: instructions
instructions: ## how many instructions a warm call takes, and whose
	@scripts/instructions.sh

.PHONY: clean-state
clean-state: ## stop, and forget deployed functions, keys and logs
	@scripts/down.sh --forget
