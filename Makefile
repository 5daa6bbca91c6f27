# Two commands matter: `make reproduce` and `make test`. Both make the environment first if it is not there.
PYTHON ?= python3.11
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS = 1
.DEFAULT_GOAL := help
.PHONY: help setup reproduce us100 market chapter test lint bench peers readme prune fresh accept clean lock hooks

help:  ## this list
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## the environment; TORCH_INDEX=<url of a torch build> chooses a CPU or CUDA build

$(VENV)/.ready: constraints.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --requirement constraints.txt
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

reproduce: setup  ## prices to scored events, on the simulated market
	@python -m anomaly_routing.markets cost --params params.yaml
	dvc repro features
	$(call together,baselines model,audit value_at_risk chapter)
	$(call together,attribution,deep_baselines ablations case_studies real_time)
	dvc repro

# two branches of the pipeline at once, one a core; fails when one of them does. Single items: two processes that both
# look at a stage further up take its outputs from each other, and DVC does not wait for those
alone = dvc --wait-for-lock repro --single-item
together = $(alone) $(1) & $(alone) $(2); second=$$?; wait $$! && exit $$second

us100: NAME = us100
us100: SELECT = in_us100
us100: EVENTS = paper/events.yaml
us100: market  ## the same on the real 100 US stocks; PRICES=<folder>

market: setup  ## the same on your own prices; NAME=<name> PRICES=<folder>
	@test -n "$(NAME)" || { echo "say NAME=<name of the market>"; exit 2; }
	@test -n "$(PRICES)" || { echo "say PRICES=<folder with prices.parquet or .csv and universe.csv>"; exit 2; }
	python -m anomaly_routing.markets create --name "$(NAME)" --prices "$(PRICES)" \
		$(if $(CALENDAR),--calendar "$(CALENDAR)") $(if $(SELECT),--select "$(SELECT)") \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(START),--start "$(START)") $(if $(END),--end "$(END)") \
		$(if $(EVENTS),--events "$(EVENTS)") $(if $(SECTORS),--sectors "$(SECTORS)")
	@python -m anomaly_routing.markets cost --params markets/$(NAME)/params.yaml
	dvc repro markets/$(NAME)/dvc.yaml

chapter: setup  ## notebook 10 on real series; NEPSE=<folder with prices.parquet> BENCHMARKS=<folder with nab/ and ucr/>
	@test -n "$(NEPSE)$(BENCHMARKS)" || { echo "say NEPSE=<folder with prices.parquet> and BENCHMARKS=<folder with nab/ and ucr/>"; exit 2; }
	$(if $(NEPSE),mkdir -p data/raw/nepse && cp "$(NEPSE)"/prices.parquet data/raw/nepse/)
	$(if $(BENCHMARKS),mkdir -p data/raw/benchmarks && cp -r "$(BENCHMARKS)"/nab "$(BENCHMARKS)"/ucr data/raw/benchmarks/)
	dvc repro --force --single-item markets/us100/dvc.yaml:chapter

test: setup  ## every test, the notebooks included
	OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup  ## ruff, and notebooks stored without outputs
	ruff check .
	ruff format --check .
	nbstripout --verify notebooks/*.ipynb

bench: setup  ## speed and memory, as ratios with medians
	python benchmarks/bench.py

peers: setup  ## each neural detector on its authors' data, into reports/peers.json; PEERS=<folder>
	@test -n "$(PEERS)" || { echo "say PEERS=<folder with cora.npz, memstream_syn.npz and smap_p1.npz>"; exit 2; }
	python -m benchmarks.peers --data "$(PEERS)"

readme: setup  ## write the summary and tables of README.md, the model card and the checklist from the reports
	python -m anomaly_routing.readme

prune: setup  ## delete stored runs of configurations that are no longer current
	python -m anomaly_routing.runs reports

fresh: setup  ## list what changed since the reports were made, and how
	@python -m anomaly_routing.fresh

accept: setup  ## accept a code-only change; STAGE=<stage> REASON="why it cannot move a number" NAME=<market>
	@test -n "$(STAGE)" -a -n "$(REASON)" || { echo 'say STAGE=<stage> REASON="why it cannot move a number"'; exit 2; }
	python -m anomaly_routing.fresh accept "$(STAGE)" --market "$(or $(NAME),simulated)" --reason "$(REASON)"

clean:  ## forget what is computed, not what is committed
	rm -rf data/interim .dvc/cache .dvc/tmp tmp

lock: setup  ## renew requirements.lock and environment.yml from pyproject.toml (needs uv)
	rm -f requirements.lock && uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --quiet \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --constraint constraints.txt \
		--output-file requirements.lock
	python tools/environment.py

hooks: setup  ## install the local pre-commit hooks
	pre-commit install
