# make app | notebooks | test | check. Each sets up what it needs in .venv; nothing else on the machine is touched.
PYTHON ?= python3
PORT ?= 7860
VENV := .venv
RUN := $(VENV)/bin/python
# Two processes share the tests, file by file, in the order of tests/conftest.py, so that what a file sets up is set up once:
# WORKERS="-n 0" for one.
WORKERS ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: app notebooks test check clean

app: $(VENV)/.ready
	$(RUN) -m app --port $(PORT)

notebooks: $(VENV)/.ready
	$(RUN) -m jupyterlab --port $(PORT) --notebook-dir notebooks

# Everything the README promises, with a real browser.
test: $(VENV)/.ready-test
	$(RUN) -m pytest $(WORKERS)

# Format, lint, types and the fast tests.
check: $(VENV)/.ready-test
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest $(WORKERS) -m "not slow"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else "Python 3.11 or 3.12 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.ready-test: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) build *.egg-info
