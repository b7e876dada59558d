PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
LOWEST := .venv-lowest
WHEEL := .venv-wheel
ONE := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: demo test test-lowest fuzz faults lint tutorials notebooks docs wheel wheel-test clean
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

# Two processes of one thread each; plain `pytest` runs the same tests in one. Without numba's variable scanpy gives
# all of OpenMP as many threads as there are cores.
test: lint
	$(ONE) $(BIN)/python -m pytest -n 2 --dist worksteal

# The lowest versions that pyproject.toml allows of what it names. torch stays that of constraints.txt: older builds
# without CUDA are not on PyPI.
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt torch uv
	grep '^torch==' constraints.txt > $(LOWEST)/torch.txt
	VIRTUAL_ENV=$(CURDIR)/$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct \
		--override $(LOWEST)/torch.txt --requirement pyproject.toml --extra test
	VIRTUAL_ENV=$(CURDIR)/$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --no-deps --editable .
	$(ONE) $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

# All of them with fewer epochs; `make test` runs two.
tutorials: $(READY)
	$(ONE) OMIB_TUTORIALS=all $(BIN)/python -m pytest tests/test_tutorials.py

# Property tests alone, with many more cases, other ones every time.
fuzz: $(READY)
	$(ONE) OMIB_FUZZ=20 $(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis

# Kills work at random moments and counts what is lost.
faults: $(READY)
	$(ONE) $(BIN)/python scripts/faults.py

# Whole, in place: about twenty minutes.
notebooks: $(READY)
	$(BIN)/jupyter-execute --inplace --timeout=-1 --NotebookClient.record_timing=False tutorials/*.ipynb

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $(DOCS_READY)

# Nitpicky, and a warning is an error.
docs: $(DOCS_READY)
	rm -rf docs/_build docs/api/generated
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build/html

wheel: $(READY)
	$(BIN)/python -m pip install --quiet 'build>=1.2'
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# An empty environment, another folder: the wheel must need nothing of the checkout.
wheel-test: wheel
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(WHEEL)/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd $(WHEEL) && bin/omib-spatial demo --slides 3 --healthy 2 --spots 200 --max-epochs 6 --out demo.png

clean:
	rm -rf $(VENV) $(LOWEST) $(WHEEL) docs/_build docs/api/generated .pytest_cache .mypy_cache .ruff_cache
