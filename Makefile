# make paper: the paper's experiment and its figures.   make test: the tests.   make docs: the site.
PYTHON ?= python3
PIP_ARGS ?=
ARGS ?=
BIN := .venv/bin

.PHONY: help paper test test-slow test-portable lint docs docs-check bench peers clean

help:
	@echo "make paper      run the paper's experiment (4 to 5 minutes), draw its figures into results/"
	@echo "make test       run the tests (7 to 8 minutes on 2 cores);  make test-slow: the long ones"
	@echo "make test-portable  the statistical tests and the pages, computed as on a CPU without AVX"
	@echo "make lint       ruff, codespell, mypy and the rules of docs/writing.md"
	@echo "make docs       the site, into docs/_build/html (DAML_DOCS=quick: its gallery at the smallest)"
	@echo "make docs-check open every page of it in a browser (needs chromium, chromedriver and npm)"
	@echo "make bench      a quick selection of the benchmarks, as a table"
	@echo "make peers      daml beside DAPPER and the machine's limits; how time and memory grow"
	@echo "make clean      remove .venv and caches (results/ stays)"

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "daml needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@

paper: .venv/.installed
	$(BIN)/daml paper --preset fast --store results/paper.zarr --figures results $(ARGS)

# A process on each core, eight at most; one that is done takes tests over from another.
PARALLEL := -n logical --maxprocesses 8 --dist worksteal

test: .venv/.installed
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Trainings and pages with the arithmetic of a CPU without AVX: rounding must turn none of them.
test-portable: .venv/.installed
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem \
	  $(BIN)/python -m pytest $(PARALLEL) -m "statistical and not slow" $(ARGS)

test-slow: .venv/.installed
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/prose.py
	$(BIN)/codespell daml tests examples asv_bench docs README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/mypy

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,docs]"
	@touch $@

docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html $(ARGS)

docs-check: docs
	npm install --silent --no-save --prefix docs/_build axe-core@4
	$(BIN)/python docs/check.py

.venv/.benchmarks: .venv/.installed
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,bench]"
	@touch $@

BENCH ?= Start|Sequential|\(10000\b
bench: .venv/.benchmarks
	cd asv_bench && ../$(BIN)/asv machine --yes > /dev/null
	cd asv_bench && ../$(BIN)/asv run --python=same --quick --show-stderr --bench "$(BENCH)"

peers: .venv/.benchmarks
	$(BIN)/python asv_bench/peers.py $(ARGS)
	$(BIN)/python asv_bench/growth.py
	OMP_NUM_THREADS=1 $(BIN)/python asv_bench/ensemble_peers.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
