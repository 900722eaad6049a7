# demo, test and check set up a virtual environment by themselves; a second call re-uses it.
# make test SHUFFLE=1 runs files and their tests in an order drawn by this seed; make test SLOW=1 what takes a minute or more, and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format docs gpu lock clean

demo: .venv/ready
	$(BIN)/owb demo

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(if $(SHUFFLE),--shuffle $(SHUFFLE)) $(if $(SLOW),-m slow)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/ready
	$(BIN)/python -m mkdocs build --strict

# faiss-cpu and faiss-gpu install into the same folder, so one has to go before the other comes.
gpu: .venv/ready
	$(BIN)/python -m pip uninstall --yes faiss-cpu
	$(BIN)/python -m pip install --constraint constraints.txt --force-reinstall --no-deps faiss-gpu

# What workflows install, file by file with its SHA-256; call it where constraints.txt was changed.
lock: .venv/ready
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --constraint constraints.txt --report - '.[data,dev]' | .ci/lock requirements.lock
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report - pip-audit | .ci/lock .ci/audit.lock

clean:
	rm -rf .venv site .mypy_cache .pytest_cache .ruff_cache

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "openworld-bench needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[data,dev]'
	touch $@
