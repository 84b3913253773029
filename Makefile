# make serve and make test work on a fresh machine with python3 (3.10 or newer) and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ROUNDS ?= 5
# How many processes share the tests; 0: they run one after the other, in pytest's own.
TESTERS ?= 0
SEED ?= 1

# What is compiled has a name of its own for each Python, and each of VENV= has its own Python.
COMPILED = pushdemo/push/deliver/_sockets$(shell $(BIN)/python -c \
	'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))' 2>/dev/null)

.PHONY: serve test lint types tests fuzz deploys takeovers clusters servers sanitize bench cores churn \
	brokers far cards docs packages clean

serve: $(VENV)/.installed-demo
	$(BIN)/paster serve development.ini

test: lint types tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-test
	$(BIN)/mypy

tests: $(VENV)/.installed-test
	$(BIN)/pytest --numprocesses $(TESTERS) --dist loadfile

# What is in C: its tests under AddressSanitizer and UndefinedBehaviorSanitizer, and its threads under
# ThreadSanitizer: a minute.
sanitize: $(VENV)/.installed-test
	PYTHON=$(BIN)/python tools/sanitize build/sanitized tests/test_sockets.py \
		tests/test_recipients.py tests/test_broadcaster.py tests/test_collapsing.py
	tools/stress build/stress 2000

# Two hundred thousand hostile clients; `make test` has some thousands of them.
fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz --requests 200000 --seed $(SEED)

# Ten thousand streams on gunicorn, whose workers are killed, recycled and reloaded meanwhile.
deploys: $(VENV)/.installed-test
	$(BIN)/python -m tests.deploys --streams 10000 --seed $(SEED)

# Ten thousand streams, whose server is reloaded five times; then its successor dies at each step.
takeovers: $(VENV)/.installed-test
	$(BIN)/python -m tests.takeovers --streams 10000

# Three nodes and an engine, to which 150 faults of ten kinds happen, and 400 clients that move between
# the nodes: twenty minutes.
clusters: $(VENV)/.installed-test
	$(BIN)/python -m tests.clusters --clients 400 --faults 150 --seed $(SEED)

# The streams that each server holds under each framework: two minutes.
servers: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.servers

# Measures this beside others, and writes benchmarks/RESULTS.md: an hour and a quarter, on a machine
# that does nothing else.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.micro --json build/micro.json
	$(BIN)/python -m benchmarks.contest --rounds $(ROUNDS)

# One event by one thread and by two, beside nginx's: ten minutes, on a machine that does nothing else.
cores: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.cores --rounds $(ROUNDS)

# Clients that come and go by the thousand a second, beside others: five minutes, likewise.
churn: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.churn --rounds $(ROUNDS)

# What a broker costs, and two nodes of ten thousand clients each: a quarter of an hour, likewise.
brokers: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.brokers --rounds $(ROUNDS)

# What an open page of all feeds costs both browsers, over thousands of events: three minutes.
cards: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.cards

# Nodes and engine in two network namespaces, with delay and loss between them: three minutes, as root.
far: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.far

# The documentation, in build/docs: a quarter of a minute.
docs: $(VENV)/.installed-test
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo build/docs/index.html

packages:
	PYTHON="$(PYTHON)" tools/install-packages

SOURCES = setup.py $(wildcard pushdemo/push/deliver/*.[ch])

# Has the environment made anew when PYTHON= names another Python than it has.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -VV),$(shell $(BIN)/python -VV 2>/dev/null))
.PHONY: $(VENV)/.installed-demo $(VENV)/.installed-bench $(VENV)/.installed-test
endif
endif

$(VENV)/.installed-demo: $(SOURCES)
	PYTHON="$(PYTHON)" tools/make-environment "$(VENV)" '.[demo,metrics]'
	touch $@

$(VENV)/.installed-bench: $(SOURCES)
	PYTHON="$(PYTHON)" tools/install-packages cc nginx
	PYTHON="$(PYTHON)" tools/make-environment "$(VENV)" '.[bench]'
	touch $@

# What is missing for a test must be there before the environment is made: a compiler is.
$(VENV)/.installed-test: $(SOURCES) | packages
	PYTHON="$(PYTHON)" tools/make-environment "$(VENV)" '.[test]'
	touch $@ $(VENV)/.installed-demo

clean:
	rm -rf $(VENV) build dist *.egg-info $(COMPILED) tests/node/node_modules
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
