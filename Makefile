# Every target sets up what it needs and can be repeated: what is finished and unchanged is not done again.
# Needs: python3 (>= 3.11, with venv), make, gcc and g++. Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
RUN    := .venv/bin
STAMP  := .venv/installed
VLLM   := .venv-vllm
PIP    := $(RUN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: quickstart test test-vllm lint docs fuzz bench study-online study-credit study-psft study-eval study-cluster study-plan study-docs clean

quickstart: $(STAMP)  ## SFT, reward model, DPO on shipped data, and a report: runs/quickstart
	bash launch/pipelines/quickstart.sh

test: lint  ## lint, then all tests
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --quiet --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-vllm: $(STAMP) $(VLLM)/installed  ## the engine of vLLM against a real server on the CPU
	OMP_NUM_THREADS=1 ALIGN_VLLM=$(VLLM) $(RUN)/python -m pytest --quiet tests/with_vllm

lint: $(STAMP)  ## style and types
	$(RUN)/ruff check .
	$(RUN)/pyright --warnings

docs: $(STAMP)  ## the site of documentation: build/docs/index.html; any warning is an error
	$(RUN)/python -m docs.generate

fuzz: $(STAMP)  ## random harm to runs for MINUTES=10 from SEED=1; one case again by its name: make fuzz CASE=kills:17
	OMP_NUM_THREADS=1 PYTHONPATH=tests:tests/helpers $(RUN)/python -m fuzz --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) \
		$(if $(CASE),--case $(CASE)) $(if $(KEEP),--keep $(KEEP))

bench: $(STAMP)  ## step time and memory against TRL: BENCHMARKS.md, benchmarks.json
	$(RUN)/python -m tests.bench

study-online: $(STAMP)  ## PPO, RLOO, GRPO and their relatives, three seeds each: STUDIES.md; under an hour, can be cut
	$(RUN)/python -m tests.bench.online_study

study-credit: $(STAMP)  ## VinePPO, VC-PPO, T-PPO, P3O, APA and what their papers claim: STUDIES.md; can be cut
	$(RUN)/python -m tests.bench.credit_study

study-psft: $(STAMP)  ## proximal SFT beside SFT over long training: STUDIES.md; can be cut
	$(RUN)/python -m tests.bench.psft_study

study-eval: $(STAMP)  ## coverage of intervals and false alarms of gates in known worlds: STUDIES.md; ten minutes, can be cut
	$(RUN)/python -m tests.bench.eval_study

study-cluster: $(STAMP)  ## 200 runs in the queue of a Slurm on this machine, some killed; a quarter of an hour, can be cut
	$(RUN)/python -m tests.bench.cluster_load

study-plan: $(STAMP)  ## what align plan foresees of memory beside what runs hold: launch/README.md; can be cut
	$(RUN)/python -m tests.bench.plan_study

study-docs: $(STAMP)  ## every line of shell in the documents, typed: tests/bench/docs_study.json; a quarter of an hour, can be cut
	$(RUN)/python -m tests.bench.docs_study

# torch first and by its exact version: a range would fetch the CUDA build and gigabytes with it.
# The Makefile of a checkout that moved makes a new environment: scripts in .venv/bin name their interpreter absolutely.
$(STAMP): pyproject.toml constraints.txt
	@$(RUN)/python -c "" 2>/dev/null && grep -qsF "$(CURDIR)" $(RUN)/activate || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@echo "installing into .venv (several minutes the first time)"
	@$(PIP) --upgrade setuptools wheel
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --no-build-isolation --editable ".[dev,deepspeed]"
	@$(PIP) --no-deps --upgrade --target .venv/apart "$$(grep '^bitsandbytes==' constraints.txt)"
	@touch $@

# Of its own: vLLM wants other versions. The list is complete, so nothing is resolved.
$(VLLM)/installed: constraints-vllm.txt
	@$(VLLM)/bin/python -c "" 2>/dev/null && grep -qsF "$(CURDIR)" $(VLLM)/bin/activate || { rm -rf $(VLLM) && $(PYTHON) -m venv $(VLLM); }
	@echo "installing vLLM into $(VLLM) (3 GB, several minutes the first time)"
	@$(VLLM)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --requirement $<
	@touch $@

clean:  ## the environments and all caches; never runs/
	rm -rf .venv $(VLLM) build dist *.egg-info .pytest_cache .ruff_cache
