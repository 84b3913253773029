# make serve and make test work on a fresh machine with python3 (3.10 or newer) and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: serve test lint types tests browsers clean

serve: $(VENV)/.installed-demo
	$(BIN)/paster serve development.ini

test: lint types tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-test
	$(BIN)/mypy

tests: $(VENV)/.installed-test browsers
	$(BIN)/pytest

browsers:
	tools/install-browsers

$(VENV)/.installed-demo: setup.py
	PYTHON="$(PYTHON)" tools/make-environment "$(VENV)" '.[demo]'
	touch $@

$(VENV)/.installed-test: setup.py
	PYTHON="$(PYTHON)" tools/make-environment "$(VENV)" '.[test]'
	touch $@ $(VENV)/.installed-demo

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
