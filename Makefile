# make demo   trains, evaluates, exports and reports on real images, from nothing
# make test   passes the tests that a change needs, in minutes
# make test-all  passes all tests that CI runs: the sweeps and soaks, too
# make torture  damages, kills and deceives for minutes, or HOURS=2, and prints a table of what came of it
# make test-nightly  passes the tests on keras-nightly and tf-nightly
# make check  formatting, lint, types and the import fence
# make docs   builds the docs site into site/
# make clients  gets the browser and the libraries that some tests need (Debian, npm)
# make savedmodels  makes what savedmodels/ ships, anew
# make bench  compares the speed with keras-hub, timm and transformers

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: demo test test-all torture test-nightly check docs clients savedmodels bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/keras-vit fit recipes/digits.py --output runs/digits

# Two files at a time: a worker with TensorFlow and JAX takes up to 4 GB.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not soak and not slow and not gpu and not arm and not hub"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not arm and not hub"

HOURS ?= 0.2
SEED ?= 0
torture: $(VENV)/.installed-dev
	$(BIN)/python tests/torture/run.py --seed $(SEED) --seconds $$(awk 'BEGIN {print 3600 * $(HOURS)}')

# The nightly packages have other names than the released ones, in whose place they are put.
test-nightly: .venv-nightly/.installed
	.venv-nightly/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not arm and not hub"

.venv-nightly/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-nightly
	.venv-nightly/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	.venv-nightly/bin/python -m pip uninstall --quiet --yes keras tensorflow
	.venv-nightly/bin/python -m pip install --quiet --disable-pip-version-check --pre keras-nightly tf-nightly
	touch $@

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

# Strict: a warning, such as a dead link, is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

APT = apt-get update -qq && apt-get install -y -qq >/dev/null
LIBRARIES = libEGL.so.1 libGL.so.1 libGLESv2.so.2 libglib-2.0.so.0

# A browser, packages of npm, and libraries that MediaPipe and its OpenCV load: without them the tests of these clients
# are skipped, with KERAS_VIT_CLIENTS=1 they fail. The names are those of Debian 12 and 13.
clients:
	command -v chromium >/dev/null || ($(APT) chromium)
	command -v npm >/dev/null || ($(APT) nodejs npm)
	$(PYTHON) -c 'import ctypes, sys; [*map(ctypes.CDLL, sys.argv[1:])]' $(LIBRARIES) 2>/dev/null || ($(APT) libegl1 libgl1 libgles2 libglib2.0-0)
	npm install --silent --no-audit --no-fund --prefix tests/clients

savedmodels: $(VENV)/.installed
	rm -rf savedmodels/digits
	$(BIN)/keras-vit fit recipes/digits.py exports= --output savedmodels/digits
	$(BIN)/keras-vit export savedmodels/digits --to savedmodel --to tflite-float32 --to tflite-int8 --input-size 8 8

bench: $(VENV)/.installed-dev .venv-bench/.installed
	$(BIN)/python benchmarks/startup.py
	PYTHONPATH=. $(BIN)/python benchmarks/pipeline.py --peers .venv-bench/bin/python
	$(BIN)/python benchmarks/training.py
	PYTHONPATH=. .venv-bench/bin/python benchmarks/loading.py
	PYTHONPATH=. .venv-bench/bin/python benchmarks/speed.py

.venv-bench/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Expected Python 3.11 or newer. Received: {v.major}.{v.minor}. Choose one with: make PYTHON=python3.12" if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .venv-nightly runs build dist site *.egg-info
