# Each target is one line of intent; what needs more than that stands in xtask.

.DEFAULT_GOAL := help
.PHONY: help run build test web bench soak fmt

# $(call stage,command) runs a command and prints when it starts, how it ended and how long it took.
define stage
@printf '\n==> %s\n' '$(1)'; \
start=$$(date +%s); $(1); status=$$?; took=$$(( $$(date +%s) - start )); \
if [ $$status -eq 0 ]; then verdict=passed; else verdict=FAILED; fi; \
printf '<== %s: %s after %s s\n' '$(1)' "$$verdict" "$$took"; exit $$status
endef

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: build ## Build for release and serve; ARGS="…" go to `sillage serve`.
	target/release/sillage serve $(ARGS)

build: web ## Build all that `make run` needs.
	cargo build --release --package sillage-server

web: web/node_modules/.package-lock.json
	npm --prefix web run build

web/node_modules/.package-lock.json: web/package-lock.json $(wildcard web/package.json web/*/package.json)
	npm --prefix web ci
	@touch $@

test: ## Check format, lints, the rules of the house, every test and every example in the docs.
	$(call stage,cargo xtask test-tools)
	$(call stage,cargo fmt --all --check)
	$(call stage,cargo clippy --workspace --all-targets -- -D warnings)
	$(call stage,cargo xtask tidy)
	$(call stage,$(MAKE) --no-print-directory web)
	$(call stage,npm --prefix web run check)
	$(call stage,npm --prefix web test)
	$(call stage,cargo nextest run --workspace)
	$(call stage,cargo test --workspace --doc)
	$(call stage,npm --prefix web run e2e)

bench: web ## Measure speed.
	cargo xtask bench

soak: ## Run for long under load, and look for what only time shows.
	cargo xtask soak

fmt: ## Format all code.
	cargo fmt --all
	npm --prefix web run format
