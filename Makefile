# Every target sets itself up: a virtual environment in .venv, pinned by constraints.txt; a second run skips it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check format cov bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

setup: $(STAMP) ## make the virtual environment

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV): about 7 GB on disk, a minute or two on a fast line"
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## the whole line on a synthetic site: render it, run the pipeline, check against ground truth
	$(BIN)/python -m simulation site --config configs/simulation/demo.yaml --output runs/demo/site
	$(BIN)/python run_pipeline.py run --config configs/demo.yaml --output runs/demo --overwrite
	$(BIN)/python run_pipeline.py evaluate --run runs/demo --truth runs/demo/site --videos
	@echo
	@echo "Look at runs/demo/matches.png and runs/demo/video/. The page: $(BIN)/python run_pipeline.py serve --gallery runs/demo"

test: $(STAMP) ## the test suite, side by side and then what must be alone; views of the page go to runs/page
	OMP_NUM_THREADS=1 PAGE_PICTURES=$${PAGE_PICTURES-runs/page} $(BIN)/python -m pytest -m "not alone" --numprocesses logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder --cov --cov-report=
	$(BIN)/python -m pytest -m alone --cov --cov-append --cov-report=term

check: $(STAMP) ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

cov: $(STAMP) ## coverage as HTML in runs/coverage
	$(BIN)/python -m pytest --cov --cov-report=html:runs/coverage

bench: $(STAMP) ## milliseconds a stage on the demo's videos; who is who on a simulated site of two hours; search
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/identity.py
	$(BIN)/python benchmarks/search.py

clean: ## remove everything the targets made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .coverage
