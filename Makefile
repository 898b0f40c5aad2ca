# The commands of the project: `make` alone lists them.
# Any GNU make from 3.81 on (the one that macOS ships) will do.

ifeq ($(filter 3.81 3.82 4.% 5.%,$(MAKE_VERSION)),)
$(error GNU make 3.81 or newer is needed, this is "$(MAKE_VERSION)": \
  install it, or use the pip commands in README.md)
endif

SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python
NB ?=
PIP_FLAGS ?=
export PIP_FLAGS
export PYTHONHASHSEED := 0
export PYTHONUTF8 := 1

# Real text, where a sibling folder has it; the user's own setting wins.
DATA := $(shell cd ../shared/data 2>/dev/null && pwd)
ifeq ($(origin LLMFS_DATA),undefined)
ifneq ($(DATA),)
export LLMFS_DATA := $(DATA)
endif
endif
ifeq ($(origin TIKTOKEN_CACHE_DIR),undefined)
ifneq ($(DATA),)
export TIKTOKEN_CACHE_DIR := $(DATA)/tiktoken_cache
endif
endif

.PHONY: help setup-book setup-dev book serve test check test-slow
.PHONY: export run lab bench clean
.DEFAULT_GOAL := help

help:
	@echo "make book       render the book: PDF and website, in _book/"
	@echo "make serve      the same, and read it at a local address"
	@echo "make test       set up everything and run every check"
	@echo "make check      the quick checks, before each commit"
	@echo "make export     clean the notebooks and write the modules"
	@echo "make run        execute the notebooks, store outputs and diary"
	@echo "                (only some of them: make run NB=02_tokenization)"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make bench      measure against other libraries"
	@echo "make test-slow  the long tests"
	@echo "make clean      delete what was built (.venv stays)"
	@echo "Options: PYTHON=python3.12, PIP_FLAGS=\"…\" for pip,"
	@echo "         make book QUARTO=1 to render with Quarto"

setup-book setup-dev:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "setup: $(PYTHON) is not installed: install Python 3.11 or" \
	    "newer, or name yours: make PYTHON=python3.12 …"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 7))' || { \
	  echo "setup: Python 3.11 or newer is needed, $(PYTHON) is too old:" \
	    "name a newer one: make PYTHON=python3.12 …"; exit 1; }
	@"$(PYTHON)" tools/setup_venv.py $(@:setup-%=%)

ifdef QUARTO
book:
	@command -v quarto >/dev/null || { \
	  echo "Quarto is not installed: get version 1.9 or newer from" \
	    "quarto.org, or leave QUARTO=1 out."; exit 1; }
	quarto render
else
book: setup-book
	@$(PY) -m book
endif

serve: setup-book
	@$(PY) -m book --serve

test: setup-dev
	@$(PY) tools/run_checks.py test

check: setup-dev
	@$(PY) tools/run_checks.py check

test-slow: setup-dev
	@$(PY) -m pytest -m slow

export: setup-dev
	@$(PY) tools/run_checks.py export

run: setup-dev
	@$(if $(NB),true,$(PY) tools/diary.py)
	@$(PY) tools/run_notebooks.py $(RUN_FLAGS) $(NB)

lab: setup-dev
	@$(PY) -m jupyterlab nbs

bench: setup-dev
	@for file in bench/[a-z]*.py; do \
	  echo "== $$file"; $(PY) "$$file" || exit 1; done

clean:
	rm -rf _book _docs _proc build .quarto .pytest_cache .ruff_cache
	rm -rf .hypothesis .cache *.egg-info
	find . -name .venv -prune -o -name __pycache__ -print | while \
	  IFS= read -r dir; do rm -rf "$$dir"; done
