PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# mypy follows folders, not setuptools' mapping: the tree linked the way it installs.
TREE := build/types
# The other quantizers, which do not fit into one environment with edgekit's dependencies.
PEERS := build/peers

.PHONY: demo test lint bench bench-quantization clean

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
	$(BIN)/python benchmarks/promises.py

bench-quantization: $(READY) $(PEERS)/.ready  ## Other quantizers beside edgekit's; takes a quarter of an hour.
	$(BIN)/python benchmarks/quantization.py --peers $(PEERS)/bin/python --json build/quantization.json

clean:
	rm -rf $(VENV) build dist *.egg-info demo

# Everything pinned: torch first, so that nothing else pulls another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

$(PEERS)/.ready: benchmarks/peers/requirements.txt constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -c constraints.txt torch
	$(PEERS)/bin/pip install -q -r benchmarks/peers/requirements.txt
	touch $@
