PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# mypy follows folders, not setuptools' mapping: the tree linked the way it installs.
TREE := build/types
# The other quantizers, which do not fit into one environment with edgekit's dependencies.
PEERS := build/peers

# Other inference servers; a test builds it, too.
SERVERS := build/servers

# The servers that the benchmark compares with: more than the test's, which has to be quick.
CONTENDERS := build/contenders

# The other pruners, which do: edgekit's environment with theirs on top.
PRUNERS := build/pruners

.PHONY: demo test lint bench bench-quantization bench-compression bench-serving bench-loadgen zoo clean

demo: $(READY)  ## The main job: a trained model to a served, measured bundle.
	$(BIN)/edgekit demo

# PyTorch would use all cores in each of the processes, which then wait for each other. A process
# that died is not replaced: its next would run the same test, and die likewise.
test: $(READY)  ## Every test, slow ones included, a process a core.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

zoo: $(READY)  ## Every model of the zoo the whole way; goes on where it was stopped.
	mkdir -p build && $(BIN)/edgekit zoo check --gpu sm89 --jobs 2 --output build/zoo.jsonl

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

bench-compression: $(READY) $(PRUNERS)/.ready  ## Other pruners beside edgekit's; takes over an hour.
	$(PRUNERS)/bin/python benchmarks/compression.py

bench-serving: $(READY) $(CONTENDERS)/.ready  ## Other servers beside edgekit's; takes three quarters of an hour, mostly the soak.
	$(BIN)/python benchmarks/serving.py --servers $(CONTENDERS)/bin/python --json build/serving.json

bench-loadgen: $(READY)  ## MLPerf's load generator beside edgekit's scenarios; takes a quarter of an hour.
	$(BIN)/edgekit compress zoo:resnet8-mnist --recipe fp32 -o build/loadgen.edge
	$(BIN)/python benchmarks/loadgen.py build/loadgen.edge

clean:
	rm -rf $(VENV) build dist *.egg-info demo

# Everything pinned: torch first, so that nothing else pulls another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt pip setuptools
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

$(PRUNERS)/.ready: benchmarks/pruners.txt constraints.txt $(READY)
	test -x $(PRUNERS)/bin/python || $(PYTHON) -m venv $(PRUNERS)
	$(PRUNERS)/bin/python -c "import site, sysconfig; from pathlib import Path; \
	own = Path(sysconfig.get_path('purelib')); base = Path('$(CURDIR)/$(VENV)') / own.relative_to(Path('$(PRUNERS)').resolve()); \
	(own / 'base.pth').write_text(f'import site; site.addsitedir({str(base)!r})')"
	$(PRUNERS)/bin/pip install -q -c constraints.txt -r benchmarks/pruners.txt
	$(PRUNERS)/bin/pip install -q --no-deps torchao==0.18.0
	touch $@

$(PEERS)/.ready: benchmarks/peers/requirements.txt constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -c constraints.txt torch
	$(PEERS)/bin/pip install -q -r benchmarks/peers/requirements.txt
	touch $@

$(SERVERS)/.ready: benchmarks/servers.txt
	test -x $(SERVERS)/bin/python || $(PYTHON) -m venv $(SERVERS)
	$(SERVERS)/bin/pip install -q --no-compile -r benchmarks/servers.txt
	touch $@

$(CONTENDERS)/.ready: benchmarks/servers/requirements.txt
	test -x $(CONTENDERS)/bin/python || $(PYTHON) -m venv $(CONTENDERS)
	$(CONTENDERS)/bin/pip install -q -r benchmarks/servers/requirements.txt
	touch $@
