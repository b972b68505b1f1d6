# Everything a person types. Each target makes what it needs; nothing has to be installed first but Python, pip and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
FIRST := runs/first-run

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: first-run
first-run: .venv/can-run ## install, train AlexNet on the built-in digits, judge with ten views, draw the page
	$(BIN)/alexnet train digits --learning.epochs 3 --run $(FIRST) $(if $(wildcard $(FIRST)/recipe.json),--resume)
	$(BIN)/alexnet evaluate $(FIRST) digits --views 10
	@$(BIN)/alexnet report $(FIRST) | sed 's/^/the page that shows what it learned: /'

.PHONY: test
test: .venv/can-test check ## style, types and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: check
check: .venv/can-test ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: records
records: .venv/can-test ## train the published CIFAR-10 results again (hours); needs DATA=folder of CIFAR-10
	for recipe in cifar-80sec cifar-18pct; do $(BIN)/alexnet train $(DATA) --recipe $$recipe --run runs/$$recipe; done

.PHONY: bars
bars: .venv/can-test ## measure every bar of speed and memory (40 minutes, nothing else running); DATA=folder of CIFAR-10: errors too
	$(BIN)/python benchmarks/bars.py $(if $(DATA),--cifar $(DATA))

.PHONY: clean
clean: ## forget the environment and what tools left; runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache src/*.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/can-run: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[digits,figures]'
	@touch $@

.venv/can-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	@touch $@ .venv/can-run
