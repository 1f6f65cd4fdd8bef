# What a person or a machine does with this repository; `make` alone explains.
# Paths are relative throughout, so that the folder may have spaces in its name and may be moved.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
PYTEST := $(PY) -m pytest
LAYERS := core ext server client bench
CYTHON := $(wildcard ext/*.pyx ext/*.pxd ext/*.h)
PACKAGING := setup.py pyproject.toml MANIFEST.in
# A folder that was moved needs its editable install and its scripts written anew: both hold absolute paths.
MOVED := $(shell [ ! -e .venv/home ] || [ "$$(cat .venv/home)" = "$$(pwd -P)" ] || echo FORCE)

.PHONY: help
help: ## this list
	@echo 'Veredus: a self-hosted message-delivery server. Targets (ARGS="..." is passed on by run, test-unit and test):'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

# ---- build -----------------------------------------------------------------------------------------------------------------------

.PHONY: build
build: build/stamp/extensions build/stamp/editable ## make .venv from requirements.lock, compile the Cython modules, install in place
	@:

# --no-build-isolation: whatever must be built (our own package; one dependency on Python 3.13) uses the pinned tools and fetches nothing.
.venv/stamp: requirements.lock .ci/preflight
	@python=$$(.ci/preflight) && echo "build: .venv from requirements.lock, with $$python" && { $(PY) -c 'import pip' 2>/dev/null && \
		[ "$$($(PY) -c 'import sys; print(sys.version)')" = "$$("$$python" -c 'import sys; print(sys.version)')" ] || "$$python" -m venv --clear .venv; }
	@awk '/^[a-z]/ { keep = /^(setuptools|wheel|cython)==/ } keep' requirements.lock > .venv/tools && \
		$(PIP) install -q --require-hashes --no-deps -r .venv/tools
	@$(PIP) install -q --require-hashes --no-deps --no-build-isolation -r requirements.lock
	@touch $@

build/stamp/extensions: .venv/stamp $(CYTHON) $(PACKAGING)
	@echo 'build: compiling the Cython modules'
	@mkdir -p $(@D) && $(PY) setup.py -q build_ext --inplace --parallel 2
	@touch $@

build/stamp/editable: build/stamp/extensions $(PACKAGING) README.md $(MOVED)
	@$(PIP) install -q --no-deps --no-build-isolation --no-index -e .
	@pwd -P > .venv/home && touch $@

.PHONY: FORCE
FORCE:

.PHONY: run
run: build ## start everything and show messages being delivered (ARGS=--once: exit afterwards)
	@exec .venv/bin/veredus dev $(ARGS)

# ---- checks ----------------------------------------------------------------------------------------------------------------------

.PHONY: test
test: build ## everything CI checks: lint, types, the installed wheel, and all tests
	@$(MAKE) --no-print-directory --output-sync=target -j2 lint types test-installed
	@$(PYTEST) $(ARGS)

.PHONY: test-unit
test-unit: build ## the tests that need no services (under half a minute)
	@$(PYTEST) tests/unit $(ARGS)

# The .pth lends the environment's dependencies, but not its editable install: .pth files in a lent folder are not read.
.PHONY: test-installed
test-installed: build ## build the wheel, install it elsewhere, use it from another directory
	@rm -rf build/wheel build/installed && $(PIP) wheel -q --no-deps --no-build-isolation --no-index -w build/wheel .
	@$(PY) -m venv --without-pip build/installed && \
		for site in "$$PWD"/.venv/lib/python3*/site-packages; do echo "$$site" > build/installed/lib/$$(basename "$$(dirname "$$site")")/site-packages/lent.pth; done
	@$(PIP) --python build/installed/bin/python install -q --no-deps --no-index build/wheel/*.whl
	@here="$$PWD" && cd / && "$$here"/build/installed/bin/python -I "$$here"/tests/installed.py

.PHONY: lint
lint: build ## ruff: rules and formatting
	@$(PY) -m ruff check -q . && $(PY) -m ruff format -q --check . && echo 'lint: clean'

# What a compiled module has beyond its stub is for other compiled modules; what the stub promises must be there, as it says.
.PHONY: types
types: build ## mypy, strict, over all layers and tests; stubtest proves that every .pyi holds for its compiled module
	@$(PY) -m mypy --no-error-summary $(LAYERS:%=-p veredus.%) -p tests -p bench.micro
	@cd build/pyroot && "$$OLDPWD"/$(PY) -m mypy.stubtest --mypy-config-file ../../pyproject.toml --concise --ignore-disjoint-bases --ignore-missing-stub veredus.ext && echo 'types: clean'

.PHONY: debug
debug: build ## compile with bounds checks and without optimisation, apart from the normal build, and run the unit tests on that
	@rm -rf build/debug/lib* && VEREDUS_DEBUG=1 $(PY) setup.py -q build --build-base build/debug
	@VEREDUS_DEBUG=1 PYTHONPATH="$$(echo build/debug/lib*)" $(PYTEST) tests/unit $(ARGS)

FUZZ_SECONDS ?= 300

.PHONY: fuzz
fuzz: build ## hostile bytes against the codec, for FUZZ_SECONDS=300; a failure prints its input
	@VEREDUS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTEST) tests/fuzz --timeout 0 $(ARGS)

DURATION ?= 600

.PHONY: chaos
chaos: build ## a storm of faults over two nodes for DURATION=600 seconds, the same from SEED=n; one that broke promises fails (docs/chaos.md)
	@$(PY) -m tests.chaos.storm --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: test-chaos
test-chaos: build ## kill, stop and cut off workers and stores under load, one fault at a time, and a short storm (a part of `make test`)
	@$(PYTEST) tests/chaos $(ARGS)

.PHONY: bench
bench: build ## measure a server of its own under load, three runs a case, and write bench/report/ (ARGS="--rounds 1 --seconds 4": quickly)
	@$(PY) -m veredus.bench.report $(ARGS)

.PHONY: bench-micro
bench-micro: build ## what single operations of the compiled modules cost on this machine
	@$(PYTEST) bench/micro --benchmark-sort=name --benchmark-columns=min,median,iqr,rounds $(ARGS)

.PHONY: requirements
requirements: build ## which rows of docs/requirements.md are proven, and by which tests
	@$(PY) -m tests.requirements_report

# ---- maintenance -----------------------------------------------------------------------------------------------------------------

.PHONY: annotate
annotate: build ## HTML of each Cython module: the yellower a line, the more Python it costs
	@mkdir -p build/annotate && cp $(wildcard ext/*.pyx) build/annotate && \
		for source in build/annotate/*.pyx; do $(PY) -m cython -3 --annotate -I build/pyroot --module-name "veredus.ext.$$(basename "$$source" .pyx)" "$$source"; done
	@ls build/annotate/*.html

# One file for Python 3.11.0 to 3.13 on Linux: differences stand in it as markers, and hashes of every file that may serve.
.PHONY: lock
lock: ## pin all dependencies anew, to the newest that fit pyproject.toml (the only target that looks for versions)
	@rm -rf build/lock && python=$$(.ci/preflight) && "$$python" -m venv build/lock && build/lock/bin/pip install -q uv
	@build/lock/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "wheel", sep="\n")' > build/lock/build.in
	@build/lock/bin/uv pip compile -q --universal --python-version 3.11 --all-extras --generate-hashes --upgrade --no-emit-index-url \
		--no-annotate --no-header -o build/lock/pins pyproject.toml build/lock/build.in
	@{ echo '# Made by `make lock` from pyproject.toml: every package, at run time, build time and test time, pinned with the hashes of its files.'; \
		cat build/lock/pins; } > requirements.lock

.PHONY: clean
clean: ## remove what the build made, .venv included (data of `make run` stays)
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .benchmarks ext/*.so
	@find $(LAYERS) tests -name __pycache__ -type d -prune -exec rm -rf {} +
