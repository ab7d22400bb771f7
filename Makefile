# make demo | test | test-unit | test-slow | check | docs | quality | fuzz | promises | bench | hub-day | dist | env | constraints | clean
#
# Everything runs in .venv, built from python3 (or `make PYTHON=python3.12 ...`) with the versions in
# constraints.txt. Two stamps in .venv say which part of it is ready, so that a second `make` installs nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CODE   := core backends ingest search api docs tests

# The longest wait for one answer of the package index, in seconds; uv's own 30 is too short on a slow line.
export UV_HTTP_TIMEOUT ?= 300
# The kernels of sam2 would need a CUDA compiler, and the tests do not use them.
export SAM2_BUILD_CUDA := 0
# Where it is set, each process compiles the thousands of files of its libraries anew, as long as many a test takes.
unexport PYTHONDONTWRITEBYTECODE

# No build isolation: sam2 needs the torch of this environment, and so every builder is a pinned one.
INSTALL := $(BIN)/uv pip install --python $(BIN)/python -c constraints.txt --no-build-isolation
RUNTIME := -e '.[offline,demo]'
TESTING := -e '.[offline,demo,parquet,redis,telemetry,reference]' --group dev --group docs
BUILDERS := hatchling setuptools uv wheel

# Run a command that downloads, three times at most.
define retried
@for attempt in 1 2 3; do \
  if $(1); then exit 0; fi; \
  echo "make: attempt $$attempt of 3 failed: installing into $(VENV)" >&2; sleep $$((2 * attempt)); \
done; exit 1
endef

.PHONY: demo test test-unit test-slow check docs quality fuzz promises bench hub-day dist env constraints clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime-ready
	@$(BIN)/segdex demo

# A process a core, each of which takes the next file once it has none left: what a file loads is loaded once. A
# fifth process would load every model once more, and wait for the same slowest file.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# ARGS goes to pytest: make test ARGS='-m "not models" -x', and -n 0 for all in this process
test: $(VENV)/.testing-ready
	@$(BIN)/pytest -m "not slow" $(PARALLEL) $(ARGS)

# What needs no model, index on disk, service, server or browser: under a minute.
UNIT := not slow and not pipeline and not service and not models and not qdrant and not browser and not e2e and not gpu
test-unit: $(VENV)/.testing-ready
	@$(BIN)/pytest -m "$(UNIT)" $(PARALLEL) $(ARGS)

# What takes minutes: real models on photographs, killed processes, fuzzing, comparisons with other code.
test-slow: $(VENV)/.testing-ready
	@$(BIN)/pytest -m slow $(PARALLEL) $(ARGS)

# Damaged pictures of all formats through the processes that decode; the same ones each time. ARGS='--keep FOLDER' keeps
# those that end a process or have no outcome.
fuzz: $(VENV)/.testing-ready
	@$(BIN)/python -m tests.fuzz --count 20000 $(ARGS)

# deploy/RELIABILITY.md, from the results of the tests that are marked `promise`, which try more faults here than in
# `make test-slow`: half an hour.
promises: $(VENV)/.testing-ready
	@$(BIN)/pytest -m promise --as-promised $(PARALLEL) -o junit_family=xunit1 --junitxml $(VENV)/promises.xml $(ARGS); \
	  $(BIN)/python -m tests.promises $(VENV)/promises.xml > deploy/RELIABILITY.md

check: $(VENV)/.testing-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

# The site in build/site, without the network. Warnings, broken links and files of other hosts are errors.
docs: $(VENV)/.testing-ready
	@$(BIN)/python -m docs.site.build $(ARGS)

# Labelled pictures for `make quality` and `make bench`.
DATA  ?= ../shared/data/coco

# Search figures of a fixed subset against the committed ones; from cached features, a minute or two. It needs the
# labels of DATA, which are not in the repository.
quality: $(VENV)/.testing-ready
	@$(BIN)/python -m tests.quality.gate $(DATA)

# Hours (never run as a whole), on a machine that does nothing else; the results are committed. DATA is a labelled set,
# OTHER pictures that are not in it, BENCH a folder for what can be made again: a second run goes on there.
BENCH ?= .cache/bench
SIZES ?= 10000 100000
OTHER ?= ../shared/data/bsds500/images
bench: $(VENV)/.testing-ready
	$(BIN)/python -m tests.benchmarks.bench_decoder
	$(BIN)/python -m tests.benchmarks.bench_masks $(DATA) --work $(BENCH)/masks
	$(BIN)/python -m tests.benchmarks.bench_ingest $(DATA)/images
	for kind in edge server; do for size in $(SIZES); do \
	  $(BIN)/python -m tests.benchmarks.bench_search --fill $(BENCH)/$$kind-$$size --segments $$size --index $$kind \
	    || exit 1; done; done
	$(BIN)/python -m tests.benchmarks.bench_search --ask $(BENCH)/edge-* $(BENCH)/server-*
	$(BIN)/segdex --profile offline --index edge:$(BENCH)/real ingest $(DATA)/images
	$(BIN)/python -m tests.benchmarks.bench_service --fill $(BENCH)/service --from edge:$(BENCH)/real
	$(BIN)/python -m tests.benchmarks.bench_service --ask $(BENCH)/service --ingest $(OTHER)

# Figures of every model that comes from the Hugging Face hub, for a day and a machine that reach it. What is not
# reachable is one line of the report; a second run goes on.
hub-day: $(VENV)/.testing-ready
	$(BIN)/python -m tests.benchmarks.hub_day $(DATA) --work $(BENCH)/hub-day $(ARGS)

# The wheel and the source archive, the same bytes wherever the same files are. Nothing is installed but the builders.
dist: $(BIN)/uv
	@$(BIN)/hatchling build --clean

env: $(VENV)/.testing-ready

$(VENV)/.testing-ready: $(VENV)/.runtime-ready
	$(call retried,$(INSTALL) $(TESTING))
	@touch $@

$(VENV)/.runtime-ready: $(BIN)/uv pyproject.toml constraints.txt
	$(call retried,$(INSTALL) $(RUNTIME))
	@touch $@

$(BIN)/uv: constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: $(PYTHON) not found; segdex needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $$($(PYTHON) --version 2>&1) is too old; segdex needs Python 3.11 or newer:" \
	         "make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "make: $(PYTHON) cannot make an environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(call retried,$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(BUILDERS))
	@touch $@

# Newest versions that go together. sam2 is asked for its dependencies by running its setup.py, which imports torch:
# this needs an environment that works.
constraints: $(VENV)/.testing-ready
	@$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	  --all-extras --group dev --group docs --group build --no-build-isolation-package sam2 \
	  --no-emit-index-url --no-annotate --no-header --output-file $(VENV)/resolved.txt
	@{ echo '# The versions of a complete environment (every extra, the groups dev, docs and build).' \
	        'Made by `make constraints`.'; \
	   sed 's/ ;.*//' $(VENV)/resolved.txt; } > constraints.txt

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
