# Every target sets itself up: a .venv is made when there is none, and the package is installed into it
# again whenever pyproject.toml or constraints.txt change.

VENV   ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := $(VENV)/bin
# Pinned versions need Python 3.11; on 3.10 the ranges in pyproject.toml decide.
PINS    = $$($(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')

.PHONY: demo test test-slow lint docs clean
.DELETE_ON_ERROR:

# Draws the demo's pictures and sheets into demo-out/.
demo: $(VENV)/.installed
	$(BIN)/anystory demo --out demo-out

# Two workers with one thread each: torch would otherwise start a thread per core in every worker. A file stays with one
# worker: what its tests share is made once. Tests marked slow touch nothing that a quick one does not.
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Guides, command line and Python reference as a site; a broken link, anchor or name is an error. Building needs no network.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open site/index.html. To search as well: $(BIN)/python -m http.server -d site, then http://localhost:8000"

clean:
	rm -rf $(VENV) demo-out site build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "anystory needs Python 3.10 or newer: no python3 was found" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "anystory needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PINS) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PINS) -e ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(PINS) -e ".[docs]"
	touch $@ $(VENV)/.installed
