# `make` alone lists the targets. Each is a line or two that can be typed without make; CI calls the same ones (.ci/run).
SHELL := /bin/bash
PY := .venv/bin/python
JOBS ?= auto
MINUTES ?= 5
ARGS ?=
PYTEST := $(PY) -m pytest -n $(JOBS) --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help venv debian demo test check lint docs bench soak lowest fix lock clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1  \2/p' $(MAKEFILE_LIST)

venv: ## make or refresh .venv with the package and the locked development set
	@scripts/bootstrap

debian: ## install the Debian packages that tests need, where that is allowed
	@scripts/debian

demo: venv ## read real files over HTTP through the cache, and print what it saved
	@$(PY) -m demo $(ARGS)

test: venv debian ## the whole test suite
	$(PYTEST) -m "not soak" $(ARGS)

lint: venv ## format, ruff, mypy --strict
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

docs: venv ## layers, sizes, and whether the documents and the program agree
	$(PY) -m pytest -q tests/project

check: lint test ## all that has to hold before a change is taken: lint, then the suite (layers and docs are tests)

bench: venv ## measure the goals, as ratios within one run
	$(PY) -m bench $(ARGS)

soak: venv ## random campaigns with fresh seeds: make soak MINUTES=n
	CLEANCACHE_SOAK_S=$$(( $(MINUTES) * 60 )) $(PY) -m pytest -p no:cacheprovider -m soak -n 2 $(ARGS)

lowest: ## a part of the suite on the lowest versions allowed, in a second environment
	@scripts/lowest

fix: venv ## format and repair what ruff can repair
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

lock: venv ## write requirements/dev.txt anew: the newest versions that fit pyproject.toml
	@scripts/lock

clean: ## remove what the targets made
	rm -rf .venv .venv-lowest .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* build dist bench/results
	find . -name __pycache__ -prune -exec rm -rf {} +
