PYTHON ?= python3
# Threads that wait without spinning: on a machine shared with other work this is many times faster.
export OMP_WAIT_POLICY ?= PASSIVE
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test fuzz faults lint notebooks clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("omib_spatial needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(READY)

demo: $(READY)
	$(BIN)/omib-spatial demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes of one thread each; plain `pytest` runs the same tests in one.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Property tests alone, with many more cases, other ones every time.
fuzz: $(READY)
	OMP_NUM_THREADS=1 OMIB_FUZZ=20 $(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis

# Kills work at random moments and counts what is lost.
faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/faults.py

notebooks: $(READY)
	$(BIN)/jupyter-execute --inplace tutorials/*.ipynb

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
