# The book's commands. Each does its own set-up: a virtual environment in .venv with exact versions.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
READY := .venv/.ready
SEEDS ?= 20
JOBS ?= 2
export JUPYTER_PLATFORM_DIRS := 1
export SPHINX_BUILD := 1

.PHONY: help book test check lab chapter survey course pdf record peers format lock clean
.DEFAULT_GOAL := help

help: ## list these commands
	@echo "The Book of Kernels. Usage: make COMMAND"; echo
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt requirements.lock pyproject.toml tools/setup.py
	@command -v $(or $(PYTHON),python3) >/dev/null || { echo 'No Python was found: install Python 3.11 or newer, then run make again.' >&2; exit 1; }
	@$(or $(PYTHON),python3) tools/setup.py

book: $(READY) ## run what changed, build the site, print its address
	@$(PY) -m pytest --nbmake --jobs $(JOBS) -q --no-header -p no:cacheprovider book
	@$(PY) -m kernelbook.pages.build

test: $(READY) ## everything that CI checks
	@$(PY) tools/check.py all

check: $(READY) ## format, lint, types, fast tests: before each commit
	@$(PY) tools/check.py fast

lab: $(READY) ## JupyterLab on the book; a double click opens a chapter
	@JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m jupyter lab --ServerApp.preferred_dir=book $(LAB)

chapter: $(READY) ## run one chapter: make chapter C=width/tangent
	@$(PY) -m kernelbook.evidence.survey run $(or $(C),"")

survey: $(READY) ## claims over fresh seeds: make survey C="width/tangent" SEEDS=20 [SCHEDULER=tcp://...]
	@$(PY) -m kernelbook.evidence.survey survey --seeds $(SEEDS) --jobs $(JOBS) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(C)

course: book ## student edition, teacher edition and slides
	@$(PY) -m kernelbook.pages.course

pdf: book ## the whole book as one PDF (needs Chromium)
	@$(PY) -m kernelbook.pages.pdf

record: $(READY) ## remake a chapter's recorded seeds: make record C=width/tangent
	@$(PY) -m kernelbook.evidence.survey record $(or $(C),"")

peers: $(READY) ## compare with other people's implementations, in an environment of their own
	@$(PY) tools/peers.py

format: $(READY) ## put code and chapters into their one form
	@$(PY) tools/check.py format

lock: ## remake requirements.lock from requirements.txt (needs uv)
	grep -v "^-e" requirements.txt > requirements.in && uv pip compile --no-config --universal --no-annotate --no-header --python-version 3.11 requirements.in -o requirements.lock; rm requirements.in

clean: ## remove everything that was built, but not .venv
	rm -rf out .pytest_cache .mypy_cache .ruff_cache
