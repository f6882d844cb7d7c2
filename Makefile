# make demo    run the main job: nothing is left behind but .venv
# make cluster run real daemons with a private RabbitMQ and PostgreSQL; DATABASE=sqlite, PORT=N, DRIVER=libvirt (as root)
# make test    linters, type checker and all tests
# make lint    linters and type checker
# make clean   remove what the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What an installation depends on. Sources do not count: it is an editable one.
PACKAGING := setup.cfg setup.py pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo cluster test lint clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.installed
	@PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=$(CURDIR)/$(VENV)/cache $(BIN)/minova-manage demo

# Real guests have a cluster of their own: one database knows nothing of the other's.
LIBVIRT := $(if $(filter libvirt,$(DRIVER)),-libvirt)
cluster: $(VENV)/.installed-cluster$(LIBVIRT)
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tools.cluster --folder $(VENV)/cluster$(LIBVIRT) \
	    $(if $(DATABASE),--database $(DATABASE)) $(if $(PORT),--port $(PORT)) $(if $(DRIVER),--driver $(DRIVER))

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

clean:
	rm -rf $(VENV) .tox build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo "minova needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "$(PYTHON) cannot make virtual environments: install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(PACKAGING)
	@echo "installing minova into $(VENV)"
	@$(PIP) install --quiet --quiet --editable .
	@rm -rf minova.egg-info
	@touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed
	@echo "installing what runs a cluster into $(VENV)"
	@$(PIP) install --quiet --quiet --editable '.[cluster]'
	@rm -rf minova.egg-info
	@touch $@

$(VENV)/.installed-cluster-libvirt: $(VENV)/.installed-cluster
	@pkg-config --exists libvirt 2>/dev/null && command -v cc >/dev/null \
	    || { echo "libvirt-python cannot be built: sudo apt-get install libvirt-dev pkg-config gcc python3-dev" >&2; exit 1; }
	@echo "installing what talks to libvirt into $(VENV)"
	@$(PIP) install --quiet --quiet --editable '.[libvirt]'
	@rm -rf minova.egg-info
	@touch $@

$(VENV)/.installed-test: $(BIN)/python $(PACKAGING)
	@echo "installing minova and its tests' tools into $(VENV)"
	@# libvirt-python is built from source; the tests that need it say so where it cannot be.
	@$(PIP) install --quiet --quiet --editable ".[test$$(pkg-config --exists libvirt 2>/dev/null && echo ,libvirt)]"
	@rm -rf minova.egg-info
	@touch $@ $(VENV)/.installed
