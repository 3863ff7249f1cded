# `make run` is all it takes on a fresh machine; `make help` tells the rest.

VENV := .venv
INSTRUMENTATIONS := $(VENV)/instrumentations
SITE := $(VENV)/site
GENERATOR := $(VENV)/generator
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
PACKAGES := server datasource plugin dashboards
ARGS ?=
PYTEST_ARGS ?= -n auto

.DEFAULT_GOAL := help
.PHONY: help run serve soak hostile test coverage test-instrumentations test-senders capture-instrumentations test-grafana-data test-clients test-generated-types test-keycloak docs-site render-dashboards lint format types build docs check clean test-promql test-alerts test-upgrade test-partition test-partition-long test-postgresql

help:  ## this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Where it is set, each of the many processes that the tests start compiles every module again.
unexport PYTHONDONTWRITEBYTECODE

run: $(VENV)/installed  ## start everything with two months of demo traces (ARGS="--port 9090", "--semantic" and so on)
	@exec $(BIN)/llm-observatory demo $(ARGS)

serve: $(VENV)/installed  ## start the server without demo traces
	@exec $(BIN)/llm-observatory serve $(ARGS)

test: $(VENV)/installed-dev  ## all tests, on private services (PYTEST_ARGS="-n 0 -x tests/rest")
	$(BIN)/pytest $(PYTEST_ARGS)

coverage: $(VENV)/installed-dev  ## all tests, measured: fails below the floor in pyproject.toml
	$(BIN)/pytest $(PYTEST_ARGS) --cov --cov-report=term

test-%: $(VENV)/installed-dev  ## the tests of one area: make test-ingest
	$(BIN)/pytest $(PYTEST_ARGS) tests/$(subst -,_,$*)

GRAFANA_DATA := tests/datasource/node

test-grafana-data: $(VENV)/installed-dev $(GRAFANA_DATA)/node_modules/.installed  ## answers and panels through Grafana's own code (needs Node)
	$(BIN)/pytest -n 0 $(GRAFANA_DATA)/test_grafana_data.py $(GRAFANA_DATA)/test_panel_options.py

$(GRAFANA_DATA)/node_modules/.installed: $(GRAFANA_DATA)/package.json
	@command -v npm >/dev/null || { echo "npm is needed: install Node 20 or newer"; exit 1; }
	cd $(GRAFANA_DATA) && npm install --no-package-lock --ignore-scripts --legacy-peer-deps --no-audit --no-fund --loglevel=error
	@touch $@

BROWSER := tests/dashboards/browser

render-dashboards: $(BROWSER)/node_modules/.installed  ## pictures of the dashboards of a Grafana, and what is wrong (ARGS="--url http://localhost:3000")
	cd $(BROWSER) && node render.mjs $(ARGS)

$(BROWSER)/node_modules/.installed: $(BROWSER)/package.json
	@command -v npm >/dev/null || { echo "npm is needed: install Node 20 or newer"; exit 1; }
	cd $(BROWSER) && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

CLIENT_TOOLS := tests/clients/node

test-clients: $(VENV)/installed-dev $(CLIENT_TOOLS)/node_modules/.installed  ## TypeScript client, Postman collection, linted OpenAPI (needs Node)
	$(BIN)/pytest -n 0 $(CLIENT_TOOLS)

$(CLIENT_TOOLS)/node_modules/.installed: $(CLIENT_TOOLS)/package.json
	@command -v npm >/dev/null || { echo "npm is needed: install Node 20 or newer"; exit 1; }
	cd $(CLIENT_TOOLS) && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

test-generated-types: $(VENV)/installed-dev $(GENERATOR)/installed  ## types for Go and Java from the OpenAPI, compiled (needs Java, Maven, Go)
	PATH="$(abspath $(GENERATOR))/bin:$$PATH" $(BIN)/pytest -n 0 tests/clients/generated

$(GENERATOR)/installed: docs/clients/java.md
	@$(PYTHON) -m venv $(GENERATOR)
	@$(GENERATOR)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep -om1 'openapi-generator-cli==[0-9.]*' $<)
	@touch $@

KEYCLOAK_VERSION := 26.7.3
KEYCLOAK := $(VENV)/keycloak-$(KEYCLOAK_VERSION)
test-keycloak: $(VENV)/installed-dev $(KEYCLOAK)/installed  ## tokens of a real Keycloak (needs Java 17, Maven, unzip)
	@$(KEYCLOAK)/bin/kc.sh start-dev --http-host 127.0.0.1 --http-port 18180 > $(KEYCLOAK)/log & server=$$!; \
	trap "kill $$server" EXIT INT TERM; \
	until grep -q "started in" $(KEYCLOAK)/log; do kill -0 $$server || exit 1; sleep 1; done; \
	KEYCLOAK_URL=http://127.0.0.1:18180 $(BIN)/pytest -n 0 tests/access/test_keycloak.py

$(KEYCLOAK)/installed:
	@mvn --quiet --batch-mode dependency:copy -Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip -DoutputDirectory=$(VENV)
	@cd $(VENV) && unzip -qo keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip
	@touch $@

test-keycloak: export KC_BOOTSTRAP_ADMIN_USERNAME = admin
test-keycloak: export KC_BOOTSTRAP_ADMIN_PASSWORD = admin

test-instrumentations: $(INSTRUMENTATIONS)/installed  ## real LLM instrumentations against stub vendors, in their own environment
	cd tests/instrumentations && PYTHONPATH=$(CURDIR) $(abspath $(INSTRUMENTATIONS))/bin/python -m pytest -q

test-senders: $(VENV)/installed-dev  ## the program on each page of docs/how-to/senders, in environments of their own (ARGS="-k openai")
	$(BIN)/pytest -n 0 tests/clients/senders $(ARGS)

capture-instrumentations: $(INSTRUMENTATIONS)/installed  ## renew tests/fixtures/otlp from the real instrumentations
	PYTHONPATH=$(CURDIR) $(INSTRUMENTATIONS)/bin/python tests/instrumentations/capture.py $(ARGS)

$(INSTRUMENTATIONS)/installed: tests/instrumentations/requirements.txt
	@$(PYTHON) -m venv $(INSTRUMENTATIONS)
	@$(INSTRUMENTATIONS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test-upgrade: $(VENV)/installed-dev  ## the version before and this one under traffic while the schema changes (needs the history)
	TEST_UPGRADE=1 $(BIN)/pytest -n 0 tests/process/test_upgrade_under_traffic.py

test-partition: $(VENV)/installed-dev  ## eight processes in two network namespaces, one cut off for a while (needs root)
	TEST_PARTITION=1 $(BIN)/pytest -n 0 -s tests/process/test_network_partition.py

test-partition-long: $(VENV)/installed-dev  ## the same, cut off for a minute
	TEST_PARTITION=1 PARTITION_SECONDS=60 $(BIN)/pytest -n 0 -s tests/process/test_network_partition.py

POSTGRESQL_TESTS ?= $(addprefix tests/,schema ingest queries storage upkeep)
test-postgresql: $(VENV)/installed-dev  ## tests on another PostgreSQL than the installed one (PG_BIN=its folder of programs)
	@if [ -x "$(PG_BIN)/postgres" ]; then \
	    PG_BIN=$(PG_BIN) $(BIN)/pytest $(PYTEST_ARGS) $(POSTGRESQL_TESTS); \
	else \
	    echo "NOT RUN: set PG_BIN to the programs of a PostgreSQL"; \
	fi

test-manifests: $(VENV)/installed-dev  ## the Kubernetes sample against the published schemas
	$(BIN)/python -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
	$(BIN)/pytest -n 0 tests/docs/test_deployment_samples.py

CITUS_TESTS ?= $(addprefix tests/,citus queries ingest access datasource rest export live reports semantic commands \
    rate_limit mcp storage upkeep dashboards)
test-citus: $(VENV)/installed-dev  ## tests on a Citus cluster of three nodes (CITUS_BIN=folder of a PostgreSQL 18 with citus)
	@if [ -x "$(CITUS_BIN)/postgres" ]; then \
	    TEST_DISTRIBUTION=citus CITUS_BIN=$(CITUS_BIN) $(BIN)/pytest $(PYTEST_ARGS) $(CITUS_TESTS); \
	else \
	    echo "NOT RUN: set CITUS_BIN to the programs of a PostgreSQL 18 that has the extension citus 14 (docs/explanation/scaling.md)"; \
	fi

SUITE = promql-test-queries.yml
test-promql: $(VENV)/installed-dev  ## the published PromQL compliance suite against a real Prometheus (SUITE=its promql-test-queries.yml)
	$(BIN)/python -m tests.datasource.prometheus.compliance $(SUITE)

test-alerts: $(VENV)/installed-dev  ## messages by Go's engine; alerts by a real vmalert and Alertmanager (all in PATH)
	@if command -v go >/dev/null; then $(BIN)/pytest -n 0 tests/plugin/go; else echo "NOT RUN: Go is not in PATH"; fi
	@if command -v vmalert >/dev/null && { command -v alertmanager || command -v prometheus-alertmanager; } >/dev/null; then \
	    $(BIN)/pytest -n 0 tests/plugin/test_real_rulers.py; \
	else \
	    echo "NOT RUN: vmalert and alertmanager are not in PATH (docs/how-to/alert-without-grafana.md)"; \
	fi

bench-%: $(VENV)/installed-dev  ## one benchmark: make bench-ingest
	$(BIN)/python -m tests.bench.$(subst -,_,$*) $(ARGS)

soak: $(VENV)/installed-dev  ## memory under two hours of mixed load (ARGS="--minutes 30")
	$(BIN)/python -m tests.bench.soak $(ARGS)

hostile: $(VENV)/installed-dev  ## a hostile tenant against a server of its own, some five minutes (ARGS="--seconds 10 promql")
	$(BIN)/python -m tests.hostile $(ARGS)

lint: $(VENV)/installed-dev  ## ruff (rules and format) and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: $(VENV)/installed-dev  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/installed-dev  ## mypy, strict, tests included
	$(BIN)/mypy

build: $(VENV)/installed-dev  ## the wheel, in dist/
	$(BIN)/python -m build --wheel

docs-site: $(SITE)/installed  ## the documentation as a site, in build/site: strict, searched, every link checked
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict -f .ci/mkdocs.yml

docs: $(VENV)/installed-dev  ## write the generated parts of the pages: settings, commands, index
	$(BIN)/python -m tests.docs.render

check: lint types test  ## lint, types and tests: what .ci/run does

clean:  ## remove what was made, except .venv and the data in .observatory
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than Python 3.11: run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "$(PYTHON) cannot make a venv: on Debian and Ubuntu, install the package python3-venv"; exit 1; }

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parquet,s3,semantic]'
	@touch $@

$(SITE)/installed: .ci/site-requirements.txt
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/installed-dev: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), with what the tests need (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parquet,s3,semantic,test,lint]'
	@touch $@ $(VENV)/installed
