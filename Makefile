# Every target does its own set-up. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test lint types imports check bench screenshots catalogue lock clean

help: ## Say what each target does
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked dependencies and the mailer command

$(STAMP): requirements.lock pyproject.toml
	@bash tests/install/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

servers: ## Install what the tests talk to and compare with (Debian as root, npm; else says why not)
	@bash tests/install/servers.sh
	@bash tests/install/node.sh

demo: setup ## Send the sample issue to 500 invented subscribers on this machine
	@$(BIN)/mailer demo

test: setup servers ## Run all tests
	@$(BIN)/pytest -n auto --dist loadgroup

lint: setup ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types (mypy --strict)
	@$(BIN)/mypy

imports: setup ## Check the layers (import-linter)
	@$(BIN)/lint-imports

check: lint types imports test ## Everything that CI runs

bench: setup servers ## Measure every figure that the project claims
	@$(BIN)/python -m benchmarks

screenshots: setup servers ## Make the pictures of docs/images anew
	@$(BIN)/python -m tests.oracle.screenshots

catalogue: setup ## Collect the texts of the pages for their translators
	@$(BIN)/python -m mailer.catalogue.collecting

lock: setup ## Write requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate -q -o requirements.lock pyproject.toml

clean: ## Remove what the targets made
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist demo
