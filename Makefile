PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# mypy follows folders, not setuptools' mapping: the tree linked the way it installs.
TREE := build/types

.PHONY: demo test lint bench clean

demo: $(READY)  ## The main job: a trained model to a served, measured bundle.
	$(BIN)/edgekit demo

test: $(READY)  ## Every test, slow ones included.
	$(BIN)/python -m pytest

lint: $(READY)  ## Formatting, lint, types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf $(TREE) && mkdir -p $(TREE)/edgekit
	ln -s $(addprefix $(CURDIR)/,$(wildcard edgekit/*) exporters runtimes calibration) $(TREE)/edgekit/
	cd $(TREE) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p edgekit

bench: $(READY)  ## The promised speeds, measured; prints ratios.
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info demo

# Everything pinned: torch first, so that nothing else pulls another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
