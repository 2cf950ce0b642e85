# Every target sets up what it needs, once: `make demo` is the place to start.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help venv demo test lint docs bench clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

venv: $(VENV)/.installed-dev $(VENV)/.installed-docs  ## create the developer's environment

demo: $(VENV)/.installed  ## restore a damaged photograph with the bundled model
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev  ## run every test, slow ones too
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed-bench  ## run every benchmark beside its peers
	$(BIN)/python -m benchmarks

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by itself, at the exact version of constraints.txt: any range would
# let the installer choose another, much larger build.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[$*]'
	touch $@
