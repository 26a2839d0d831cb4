# Every target does its own set-up. `make help` lists them.
# PYTHON=python3.13 uses another interpreter, in a virtual environment of its own (.venv-3.13).
PYTHON ?= python3
ifneq ($(PYTHON),python3)
override PYTHON := $(or $(shell bash tests/install/pythons.sh "$(PYTHON)"),$(PYTHON))
endif
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PROGRAM := $(VENV)/.program
# The tests start hundreds of processes. Without bytecode each of them would compile the whole program again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test stress quick collect lint types imports deps docs mutants check bench screenshots catalogue lock clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the locked dependencies and the mailer command

$(STAMP): requirements.lock pyproject.toml
	@bash tests/install/venv.sh "$(PYTHON)" "$(VENV)"
	@touch $@

# Enough for `mailer` and its console. `make setup` completes it.
$(PROGRAM): requirements.lock pyproject.toml
	@test -e $(STAMP) || bash tests/install/venv.sh "$(PYTHON)" "$(VENV)" program
	@test ! -e $(STAMP) || $(MAKE) --no-print-directory setup
	@touch $@

servers: ## Install the servers that the tests use (needs Debian and root; npm packages need npm)
	@bash tests/install/servers.sh
	@bash tests/install/node.sh

demo: $(PROGRAM) ## Send the sample issue to 500 made-up subscribers on this machine
	@$(BIN)/mailer demo

test: setup servers ## Run the tests
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "not stress"

stress: setup servers ## Run the tests that kill, cut off and flood again and again
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m stress

quick: setup servers ## Run the tests except the slowest, with fewer examples
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not stress" --hypothesis-profile quick

collect: setup ## Check that the tests can be collected; compiles them, once for all processes that run them
	@collected=$$($(BIN)/pytest --collect-only -qq) || { echo "$$collected"; exit 1; }

lint: setup ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types (mypy --strict)
	@$(BIN)/mypy

imports: setup ## Check the layers (import-linter)
	@$(BIN)/lint-imports

deps: setup ## Check that pyproject.toml lists the packages that the code imports (deptry)
	@$(BIN)/deptry .

docs: setup ## Build the documentation site in site/; broken links are errors
	@$(BIN)/python -m mailer.config.reference docs/reference/configuration.md
	@$(BIN)/mkdocs build --strict --quiet

mutants: setup servers ## Change the code in 200 small ways and count how many the tests notice (about half an hour)
	@$(BIN)/python -m tests.mutation

check: lint types imports deps docs test stress ## Run what CI runs, on this interpreter

bench: setup servers ## Measure the figures in the documentation
	@$(BIN)/python -m benchmarks

screenshots: setup servers ## Retake the screenshots in docs/images
	@$(BIN)/python -m tests.oracle.screenshots
	@$(BIN)/python -m tests.oracle.console_screenshots

catalogue: setup ## Extract the texts of the pages for translators
	@$(BIN)/python -m mailer.catalogue.collecting

# Not after `setup`: a newer pyproject.toml would make it build the environment from the old lock first.
lock: ## Rewrite requirements.lock from pyproject.toml
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory setup
	@$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate -q -o requirements.lock pyproject.toml

clean: ## Remove what the targets created
	@rm -rf .venv* site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist demo
