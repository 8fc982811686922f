# Everything goes through make: it finds a Python, keeps .venv current, and needs neither Docker nor
# any other tool. Paths are relative throughout, so a folder with spaces in its name works.

.DEFAULT_GOAL := help
SHELL := /bin/sh
STAGE ?= dev
SEEDS ?= 20000
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: help run dashboard logs down docs test test-extra test-endpoint simulate mutants chaos bench check audit-template check-wheels \
	permissions package deploy check-stack destroy lock clean \
	venv-local venv-dashboard venv-dev

help: ## This list
	@echo "make <target>; the targets:"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' Makefile | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

run: venv-local ## Start everything on this machine and collect candles (PORT, RUN_SYMBOLS, EXCHANGE=live, EXCHANGE_URL, CLOUD=localstack)
	@$(PY) -m local run

dashboard: venv-dashboard ## Draw the running stack's dashboard into .local/dashboard.png (DASHBOARD='--demo 5')
	@$(PY) -m local dashboard $(DASHBOARD)

logs: venv-local ## What the functions logged of one task of the running stack (TASK=<id>)
	@$(PY) -m local logs $(TASK)

down: ## End what `make run` started; data stay in .local/
	@for python in $(PY) python3 python; do \
		if "$$python" -c "" 2>/dev/null; then exec "$$python" -m local down; fi; \
	done; echo "No Python was found, which is needed to end anything." >&2; exit 1

test: venv-dev ## Run all tests
	@$(PY) -m pytest -n 2 --no-loadscope-reorder

test-extra: venv-dev ## An upgrade while tasks run, Parquet readers with Spark, Prometheus, tutorials, the console in Chromium, the site, a second DynamoDB
	@$(PY) -m pytest tests/extra/upgrade.py
	@sh local/extra.sh
	@$(MAKE) docs
	@$(PY) -m pytest tests/extra/readers.py tests/extra/prometheus.py tests/extra/tutorials.py tests/extra/pages.py
	@sh local/browser.sh
	@$(PY) -m pytest tests/extra/console -o python_files='*_in_chromium.py'
	@sh local/environment.sh endpoint localstack
	@$(PY) -m tests.extra.dynalite

docs: venv-local ## Build the documentation site into build/site; broken links fail
	@sh local/environment.sh docs
	@$(PY) -m infra.site
	@.venv-docs/bin/zensical build --strict --clean --config-file build/site.toml

test-endpoint: venv-dev ## The tests of AWS calls on the endpoint AWS_ENDPOINT_URL (RECORD='LocalStack 4.14.0' notes what came of it)
	@$(if $(AWS_ENDPOINT_URL),,echo "Name the endpoint: make test-endpoint AWS_ENDPOINT_URL=http://127.0.0.1:4566" >&2; exit 2)
	@sh local/environment.sh endpoint localstack
	@$(PY) -m tests.aws "$(AWS_ENDPOINT_URL)" $(if $(RECORD),--record "$(RECORD)")

simulate: venv-dev ## Play SEEDS random schedules with crashes, duplicates and lost answers (SEEDS=20000)
	@$(PY) -m tests.simulation --seeds $(SEEDS)

mutants: venv-dev ## Remove one guard at a time: a simulated schedule, or a test that reaches it, must catch each (MUTANTS='--package tasks')
	@$(PY) -m tests.simulation.mutants
	@$(PY) -m tests.mutation $(MUTANTS)

chaos: venv-dev ## Kill, duplicate, refuse and fail during one large task, and print what came of it (CHAOS='--seed 2')
	@$(PY) -m tests.chaos $(CHAOS)

bench: venv-dev ## Measure what the design promises in numbers, into docs/BENCHMARKS.md (BENCH='worker cold_start' for some)
	@$(if $(filter stack worker,$(BENCH)),sh local/environment.sh bench)
	@$(if $(filter console,$(BENCH)),sh local/browser.sh)
	@$(PY) -m benchmarks $(BENCH)

check: venv-dev ## Format, lint, types, tests and the built template: what CI runs
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest
	$(PY) -m infra.package --stage $(STAGE) --for-this-machine --out build/check
	$(VENV)/bin/cfn-lint build/check/sam.json
	$(MAKE) audit-template

audit-template: venv-dev ## What checkov, cfn-lint and bandit find in the template of prod and in the code, and is not explained
	@sh local/environment.sh audit
	@$(PY) -m infra.package --stage prod --for-this-machine --out build/audit >/dev/null
	@$(PY) -m infra.audit build/audit/sam.json

check-wheels: venv-local ## See that Lambda's Pythons and processors all have the wheels that ship (needs the package index)
	@$(PY) -m infra.wheels

permissions: venv-dev ## Take each permission of each function away on a running stack: a story must miss it (PERMISSIONS='--only plan')
	@$(PY) -m tests.permissions $(PERMISSIONS)

package: venv-local ## Build the template, the zip and its SBOM of STAGE (default dev) into build/package
	@$(PY) -m infra.package --stage $(STAGE)

deploy: venv-local ## Deploy STAGE to the AWS account of the environment
	@$(PY) -m local.preflight --stage $(STAGE)
	@$(PY) -m infra.package --stage $(STAGE)
	@$(PY) -m local.release --stage $(STAGE)

check-stack: venv-local ## Use the deployed STAGE step by step, and say what works (CHECK='--read-only')
	@$(PY) -m market_data_collector.cli check --stack market-data-collector-$(STAGE) $(CHECK)

destroy: venv-local ## Remove the stack of STAGE, after asking; candles and audit trail stay (STAGE=<stage> YES=1)
	@$(if $(filter file default,$(origin STAGE)),echo "Name the stage: make destroy STAGE=dev" >&2; exit 2,$(PY) -m local.destroy --stage $(STAGE) $(if $(filter 1 yes,$(YES)),--yes))

lock: venv-dev ## Write requirements*.txt, with hashes, from requirements*.in (LOCK='--upgrade-package NAME')
	@sh local/lock.sh $(LOCK)

clean: down ## Delete what was built, installed and collected here
	rm -rf build .local $(VENV) .venv-cloud .venv-extra .venv-endpoint .venv-audit .venv-bench .venv-docs .pytest_cache .mypy_cache .ruff_cache .hypothesis dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv-local venv-dashboard venv-dev:
	@sh local/bootstrap.sh $(@:venv-%=%) "$(PYTHON)"
