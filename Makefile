# Everything here works from a bare Debian machine with python3 (and python3-venv) and make.
VENV ?= .venv
BIN := $(VENV)/bin
# a user's setting must not keep byte code from being written: it is what makes starts short
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-fast nightly check docs pins clean

quickstart:  ## install the CPU build and train 13 numbers on the embedded task
	@scripts/setup.sh $(VENV) cpu
	@$(BIN)/python -m tinylora_rl.train +recipe=arithmetic_cpu

test:  ## unit and integration tests: all that CI runs, without a GPU
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit
	@$(BIN)/python -m pytest tests/integration

test-fast:  ## the unit tests that start neither verl nor vLLM
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit -m "not e2e"

nightly:  ## what CI has no time for
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/python -m pytest --slow tests

check:  ## style, types, launchers, images and docs
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(BIN):$$PATH" shellcheck scripts/*.sh scripts/cluster/*.sh .ci/run
	@$(BIN)/hadolint --no-color docker/Dockerfile.cpu docker/Dockerfile.gpu
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict

docs:  ## docs/ as a site, in site/
	@scripts/setup.sh $(VENV) cpu dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pins:  ## resolve requirements/ anew
	@scripts/setup.sh $(VENV) cpu dev
	@scripts/pins.sh $(BIN)/uv

clean:
	rm -rf $(VENV) runs site
