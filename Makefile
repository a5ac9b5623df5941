PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## The main job: a trained model to a served, measured bundle.
	$(BIN)/edgekit demo

test: $(READY)  ## Every test, slow ones included.
	$(BIN)/python -m pytest

lint: $(READY) build/types  ## Formatting, lint, types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p edgekit

bench: $(READY)  ## Side by side with the peers; prints ratios.
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

# mypy follows folders, not setuptools' mapping: link the tree the way it installs.
build/types: pyproject.toml
	rm -rf $@ && mkdir -p $@/edgekit
	ln -s $(CURDIR)/edgekit/* $(CURDIR)/exporters $(CURDIR)/runtimes $(CURDIR)/calibration $@/edgekit/
