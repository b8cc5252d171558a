# The whole project in two commands: `make demo` and `make test`. Both can be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint hashes setup clean

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/megaportraits weights pull
	$(BIN)/megaportraits demo --out out/demo --overwrite

test: setup
	$(BIN)/megaportraits weights pull
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# After a file of weights was replaced: programs refuse shipped weights whose hash is not in this list.
hashes:
	cd src/megaportraits/assets && sha256sum */*.safetensors > SHA256SUMS

clean:
	rm -rf $(VENV) out
