# The two commands of the README: `make demo` and `make test`.  Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

.PHONY: demo test check format clean

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "snn-energy needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/snn-energy train digits-statten --out $(DEMO)/run
	$(BIN)/snn-energy profile $(DEMO)/run/best.pth --out $(DEMO)/profile
	$(BIN)/snn-energy export $(DEMO)/run/best.pth --target onnx --out $(DEMO)/onnx
	$(BIN)/snn-energy report $(DEMO)/profile --verification $(DEMO)/onnx --out $(DEMO)/report.html

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .lava-env $(DEMO) runs
