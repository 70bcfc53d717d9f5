# Everything here works from a bare Debian machine with python3 (and python3-venv) and make.
VENV ?= .venv
BIN := $(VENV)/bin
# a user's setting must not keep byte code from being written: it is what makes starts short
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-fast check pins clean

quickstart:  ## install the CPU build and train 13 numbers on the embedded task
	@scripts/setup.sh $(VENV) cpu
	@$(BIN)/python -m tinylora_rl.train +recipe=arithmetic_cpu

test:  ## every test that runs without a GPU, end-to-end ones included
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/python -m pytest

test-fast:  ## the unit tests alone, about two minutes
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/python -m pytest -m "not e2e"

check:  ## style and types
	@scripts/setup.sh $(VENV) cpu dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

pins:  ## resolve requirements/ anew
	@scripts/setup.sh $(VENV) cpu dev
	@scripts/pins.sh $(BIN)/uv

clean:
	rm -rf $(VENV) runs
