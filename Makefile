# make demo: install, run the main job on embedded data. make test: install, all tests. make check: what CI runs beside them.
# make soak: kills, fuzzing, mutants, round trips and the rest of tests/reliability at length. make test-lowest: all tests with the lowest versions allowed.
# make docs: the site, into site/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
INSTALLED := $(VENV)/.installed
INSTALLED_DOCS := $(VENV)/.installed-docs

VENV_LOWEST ?= .venv-lowest
VENV_WHEEL ?= .venv-wheel

.PHONY: demo test wheel soak test-lowest browser check docs format results clean

# The base alone: what `pip install unseen` brings.
demo: $(BASE)
	@$(BIN)/unseen score digits --random-labels 0.05 --estimator turnover --force

# Two processes, of one thread each; a file stays in one of them.
test: $(INSTALLED) browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The release: an sdist, the wheel that is built from it, and this wheel alone in an empty environment. There it scores a folder of images, says
# what its extras are for, and runs the README.
wheel:
	rm -rf $(VENV_WHEEL) dist && $(PYTHON) -m venv $(VENV_WHEEL)
	$(VENV_WHEEL)/bin/python -m pip install --quiet --disable-pip-version-check build
	$(VENV_WHEEL)/bin/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv --clear $(VENV_WHEEL)
	$(VENV_WHEEL)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	$(VENV_WHEEL)/bin/python tests/try_wheel.py $(VENV_WHEEL)/bin/unseen
	$(VENV_WHEEL)/bin/python tests/run_readme.py README.md

# UNSEEN_KILLS, UNSEEN_KILL_SEEDS: more or fewer kills of each command. Two processes; a file stays in one of them.
soak: $(INSTALLED)
	UNSEEN_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/reliability tests/data/test_reading.py tests/curate/test_apply.py

test-lowest:
	$(PYTHON) tests/lowest.py > .lowest.txt
	test -d $(VENV_LOWEST) || $(PYTHON) -m venv $(VENV_LOWEST)
	$(VENV_LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c .lowest.txt -e ".[dev]"
	$(VENV_LOWEST)/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::PendingDeprecationWarning

# The report's page is tested in Debian's chromium. Without it those tests are skipped and say so; with CI=true they fail.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "No chromium: the tests of the report's page will be skipped. apt-get install chromium"

check: $(INSTALLED)
	$(BIN)/ruff format --check src tests benchmarks docs/hooks.py
	$(BIN)/ruff check src tests benchmarks docs/hooks.py
	$(BIN)/mypy
	$(BIN)/python tests/run_readme.py README.md

# The table of the paper's claims in docs/claims.md, from docs/results/small (`unseen recipe all --scale small` writes that).
results: $(INSTALLED)
	$(BIN)/python benchmarks/claims.py docs/results/small docs/claims.md

# The pages' blocks are executed, then the site is built: a dead link or a stale name fails.
docs: $(INSTALLED_DOCS)
	$(BIN)/python tests/run_readme.py docs/index.md docs/cluster.md docs/streaming.md docs/privacy.md docs/coming-from.md docs/tutorials/*.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python tests/try_search.py site
	@echo "$(CURDIR)/site/index.html"

format: $(INSTALLED)
	$(BIN)/ruff format src tests benchmarks docs/hooks.py
	$(BIN)/ruff check --fix src tests benchmarks docs/hooks.py

$(BASE): pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . 2>&1 | grep -v "^WARNING: Location" || true
	@$(BIN)/python -c "import unseen" && touch $@

$(INSTALLED): $(BASE) pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV_LOWEST) $(VENV_WHEEL) .lowest.txt build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
