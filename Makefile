# make demo   trains on an embedded data set in a few minutes and shows what came out
# make test   runs the tests
# make lint   checks style, types and the floors of the house
# make env    makes .venv, or brings it up to date; the others do so by themselves
# make clean  removes what tools and builds leave behind; `rm -r .venv` removes the environment

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
RECENT := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: demo test lint env clean

demo: env
	$(BIN)/omnisource demo

# One thread a test process: the tests start workers and process groups of their own. Files are done in their order: the
# last ones are short, so that neither process waits long for the other.
test: export OMP_NUM_THREADS := $(or $(OMP_NUM_THREADS),1)
test: env
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

env: $(STAMP)

# A .venv that is there and good is kept; it is installed into again only when one of the two files changes.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -c '$(RECENT)' 2>/dev/null || { \
	    $(PYTHON) -c '$(RECENT)' || { \
	        echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
	        echo "Name another one: make env PYTHON=/path/to/python3.11" >&2; \
	        exit 1; }; \
	    echo "making .venv"; \
	    $(PYTHON) -m venv --clear .venv; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find omnisource tests tools configs -name __pycache__ -type d -prune -exec rm -rf {} +
