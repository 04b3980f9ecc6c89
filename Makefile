# make demo         train on the embedded corpus, load the saved model back, predict; all in runs/demo
# make space        the demo as a page in the browser, with the model of `make demo`
# make test         the test suite, offline
# make test-space   the Space in headless Chromium (Debian's package chromium)
# make test-lowest  the same with the lowest versions that pyproject.toml names
# make lint         ruff, and ty, which checks types
# make audit        looks up published security advisories against the lowest versions that pyproject.toml names
# make docs        the documentation site, in site/; a broken link is an error
# make release-check  builds sdist and wheel, and uses the wheel in an empty environment away from the checkout
# CUDA=1 installs the CUDA build of torch instead of the CPU build.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
CUDA ?=

# Python compiles a module when it is first imported. pip would take two minutes to compile all that is installed.
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
INSTALLED = $(VENV)/.installed

# Whatever pyproject.toml names as `name>=version`, the extras too, as `name==version`.
LOWEST = $(shell grep -o '"[a-z0-9-]\+>=[0-9.]*' pyproject.toml | tr -d '"' | sed 's/>=/==/' | sort -u)

.PHONY: audit demo docs space test-space test test-lowest lint release-check

demo: $(INSTALLED)
	$(VENV)/bin/selfmm demo

space: $(INSTALLED)
	test -d runs/demo/model || $(MAKE) demo
	SELFMM_MODEL=runs/demo/model $(VENV)/bin/python spaces_demo/app.py

# A process a core, a thread each: what one test file prepares is not prepared twice, and nothing is compiled twice.
test: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n logical --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ty check --quiet --python $(VENV)

test-space: $(INSTALLED)
	SELFMM_TEST_SPACE=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest tests/test_space.py

test-lowest:
	$(MAKE) test VENV=.venv-lowest TORCH="$(filter torch==%,$(LOWEST))" EXTRA="$(LOWEST)"

# It asks PyPI's database of advisories.
audit: $(INSTALLED)
	$(PIP) pip-audit
	printf '%s\n' $(LOWEST) > $(VENV)/lowest.txt
	$(VENV)/bin/pip-audit --requirement $(VENV)/lowest.txt --no-deps --disable-pip

docs: $(INSTALLED)
	$(PIP) --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build

release-check:
	PYTHON=$(PYTHON) .ci/release-check

# The CPU build, where the package index has it under its own name, else by way of uv, which knows where it is.
ifeq ($(CUDA),)
INSTALL_TORCH = $(PIP) $(TORCH)+cpu 2>/dev/null || ($(PIP) uv && $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --torch-backend cpu $(TORCH)) || $(PIP) $(TORCH)
else
INSTALL_TORCH = $(PIP) $(TORCH)
endif

$(VENV)/.torch:
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL_TORCH)
	touch $@

$(INSTALLED): pyproject.toml $(VENV)/.torch
	$(PIP) --editable ".[test]" $(EXTRA)
	touch $@
