# Everything starts here. `make demo` is the place to begin.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIGITS ?= ../shared/data/digit_calls

.PHONY: demo digits digits-speakers env test lint soak soak-train lab recipes clean

demo: env  ## the whole way on a synthetic corpus, under demo/
	$(BIN)/speechmill demo demo

digits: env  ## train on real people reading digits, and on synthetic voices beside them, under digits/
	$(BIN)/speechmill demo-corpus digits/voices --script digits --calls 300 --hours 1.7
	$(BIN)/speechmill pipeline bizspeech $(DIGITS) digits --also bizspeech:digits/voices:0.15 --recipe hparams/digits.yaml --split valid

digits-speakers: env  ## WER on test calls, and on each speaker when trained on the others; writes benchmarks/results/digits.json
	$(BIN)/python -m benchmarks.digits --source $(DIGITS)

env: $(VENV)/made  ## .venv with the command `speechmill` and all that tests and benchmarks import

$(VENV)/made: pyproject.toml constraints.txt
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev]"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt pyflac 2>$(VENV)/pyflac.log \
		|| echo "pyflac could not be installed (it needs a C compiler; $(VENV)/pyflac.log): FLAC shards are written" \
			"more slowly, nothing else changes; again: $(BIN)/pip install -c constraints.txt pyflac"
	touch $(VENV)/made

test: env  ## the tests
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy src

soak: env soak-train  ## ten kills of every stage, fifty of workers that shard, thirty of training processes; writes benchmarks/results/soak*.json
	$(BIN)/python -m benchmarks.soak --kills 10 --out benchmarks/results/soak.json
	$(BIN)/python -m benchmarks.soak --stages shard-workers --kills 50 --out benchmarks/results/soak_workers.json

soak-train: env  ## thirty kills of training processes under each strategy; writes benchmarks/results/soak_train.json
	$(BIN)/python -m benchmarks.soak_train --kills 30 --out benchmarks/results/soak_train.json

lab: env  ## strategies and hours compared, run by run, hours in all; writes benchmarks/results/lab.json
	$(BIN)/python -m benchmarks.lab --work lab --out benchmarks/results/lab.json

recipes: env  ## options of the recipes compared, run by run, hours in all; writes benchmarks/results/recipes.json
	$(BIN)/python -m benchmarks.recipes --at-once 2 --work recipes --out benchmarks/results/recipes.json

clean:  ## remove what demo and digits made
	rm -rf demo digits
