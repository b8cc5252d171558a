# `make demo` and `make test` set the project up and run it; both can be repeated at any time.
ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := .venv/Scripts
else
PYTHON ?= python3
BIN := .venv/bin
endif
VENV := .venv
# What pip installs first. For the CPU build on Linux: "torch torchvision --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch torchvision
# A file of exact versions, as constraints.txt; empty: the newest versions that pyproject.toml allows.
CONSTRAINTS ?=
READY := $(VENV)/.ready

.PHONY: demo test lint reproduce-tiny site dist hashes constraints setup clean

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]' $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	@$(BIN)/python -c 'import pathlib; pathlib.Path("$@").touch()'

demo: setup
	$(BIN)/megaportraits weights pull
	$(BIN)/megaportraits demo --out out/demo --overwrite

test: setup
	$(BIN)/megaportraits weights pull
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# docs/reproduce.md from generated corpora to Tables 1 and 2, in miniature. Given again, it continues.
reproduce-tiny: setup
	$(BIN)/megaportraits weights pull
	$(BIN)/python -m tools.reproduce --out out/reproduce-tiny

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# After a file of weights was replaced: programs refuse shipped weights whose hash is not in this list.
hashes:
	$(BIN)/python tools/write_hashes.py

# The reference and the guides as a web site in out/site; a broken link or a missing page ends it.
site: setup
	$(BIN)/mkdocs build --strict

# Source distribution and wheel in dist.
dist: setup
	$(BIN)/python -m build

# After pyproject.toml changed, in a fresh .venv (`make clean constraints`): the versions that CI installs.
constraints: setup
	$(BIN)/python tools/write_constraints.py

clean:
	rm -rf $(VENV) out dist
