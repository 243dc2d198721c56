# Every target does its own set-up; second runs find it done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STEPS ?= 60
EXAMPLES := examples/stdlib-code
AIPLATFORM_2 := .venv-aiplatform-2
CLIENTS := tests/clients
SOURCES := src components pipelines images tests pretraining benchmarks scripts tests/containers/engine

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes first and by its own command: left to a dependency, pip would take gigabytes of CUDA.
$(VENV)/torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch $$($(PYTHON) scripts/torch_index.py)
	@touch $@

$(VENV)/tune: $(VENV)/torch pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable '.[tune,serve]'
	@touch $@

$(VENV)/dev: $(VENV)/tune
	$(PIP) install --quiet --constraint constraints.txt --editable '.[tune,serve,gcs,vertex,kfp,dev]'
	@touch $@

install: $(VENV)/dev ## set up .venv with everything

tune: $(VENV)/tune ## the main job: tune, evaluate, select, register, deploy and ask
	$(BIN)/tuneline run tune-large-model --large-model-reference tuneline/tiny-code@001 --train-steps $(STEPS) \
	    --dataset-uri $(EXAMPLES)/train.jsonl --evaluation-data-uri $(EXAMPLES)/evaluation.jsonl --deploy-model
	@head -n 1 $(EXAMPLES)/question.txt
	$(BIN)/tuneline predict latest --prompt - < $(EXAMPLES)/question.txt
	@echo 'Stop the endpoint with: $(BIN)/tuneline endpoints undeploy latest (it stops by itself after 30 idle minutes).'

# The other clients that the tests run: google-cloud-aiplatform 2, which cannot be where 1 is, and Google's client for Node.js.
$(AIPLATFORM_2)/installed: $(CLIENTS)/constraints-aiplatform-2.txt
	$(PYTHON) -m venv $(AIPLATFORM_2)
	$(AIPLATFORM_2)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $< 'google-cloud-aiplatform[pipelines]'
	@touch $@

$(CLIENTS)/node/node_modules/installed: $(CLIENTS)/node/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is not installed: the tests of the Node.js client are skipped.'; exit 0; }; \
	    cd $(CLIENTS)/node && npm ci --no-progress && touch node_modules/installed

clients: $(AIPLATFORM_2)/installed $(CLIENTS)/node/node_modules/installed ## set up the clients that the tests run beside .venv's own

test: $(VENV)/dev clients ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

images: $(VENV)/dev ## build the container images; BASE_IMAGE= and ARGS= say how
	$(BIN)/python -m images.build $(ARGS)

locks: $(VENV)/dev ## write the images' locks anew (UV_FIND_LINKS= or UV_INDEX= offers torch without CUDA)
	$(BIN)/python -m images.locks $(ARGS)

audit: $(VENV)/dev ## known vulnerabilities in the images' locks; needs the network
	$(BIN)/python -m images.audit $(ARGS)

container-test: $(VENV)/dev ## build the images and run the templates in them (docker, or root and apt-get)
	tests/containers/run

cloud-test: $(VENV)/dev ## try it on a real project: PROJECT= BUCKET=gs://... REGISTRY=, ARGS=--dry-run prints the commands only
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m scripts.cloud_test --project $(PROJECT) --bucket $(BUCKET) --registry $(REGISTRY) $(ARGS)

check: $(VENV)/dev ## style, types, import floors, generated files
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy src components pipelines images
	$(BIN)/lint-imports
	$(BIN)/python -m pipelines.compile --check

compile: $(VENV)/dev ## write compiled/ anew
	$(BIN)/python -m pipelines.compile

wheel: $(VENV)/dev ## build dist/*.whl with the templates and the base model inside
	$(BIN)/python -m build --wheel --outdir dist

.PHONY: help install tune clients test images locks audit container-test cloud-test check compile wheel
