# The two commands of the README: `make demo` and `make test`.  Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

.PHONY: demo test test-sse41 test-avx2 check docs format clean lava-env

# What hangs on training, or compares sums of floats: CI runs these a second time.  ROUNDING=tests is the whole suite.
ROUNDING ?= tests/training tests/test_trained_statten.py tests/test_cli.py tests/exporters/test_lava_runtime.py \
	tests/profiling/test_registry_profiles.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snn-energy needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

# Frameworks whose networks the tests profile; without what they ask for, some of which is older than ours.
FRAMEWORKS := $(VENV)/.frameworks

$(FRAMEWORKS): $(READY) tests/frameworks/requirements.txt
	$(BIN)/pip install --quiet --no-deps -r tests/frameworks/requirements.txt
	@touch $@

demo: $(READY)
	scripts/demo $(BIN) $(DEMO)

lava-env:
	scripts/lava_env

# a test that misses a framework fails then, and is not skipped
test test-sse41 test-avx2: export FRAMEWORKS_INSTALLED := yes
test: $(FRAMEWORKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# With the instruction sets of older processors, under which PyTorch and oneDNN round float sums otherwise.
test-sse41: export ATEN_CPU_CAPABILITY = default
test-sse41: export ONEDNN_MAX_CPU_ISA = SSE41
test-avx2: export ATEN_CPU_CAPABILITY = avx2
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-sse41 test-avx2: $(FRAMEWORKS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ROUNDING)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/; a warning is an error.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(READY)
	$(BIN)/python -m mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .lava-env $(DEMO) runs site
