# What each target does is said in CONTRIBUTING.md; `make install` is the only one that touches the network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKED := src tests benchmarks tools examples

# Processes that run tests side by side; most tests wait for others rather than compute.
WORKERS ?= 3

# Commands that tests drive, and the Debian packages that have them.
TOOLS := mosquitto_pub=mosquitto-clients curl=curl ip=iproute2 wg=wireguard-tools wireguard-go=wireguard-go \
	dnsmasq=dnsmasq-base npm=npm

.PHONY: install run test test-long lint format bench docs lock sbom clean

# The core is compiled where a compiler is at hand, and only when what it is made of has changed; nothing needs it.
install: $(STAMP)
	@$(BIN)/python tools/compile_core.py

# Every package comes from requirements.lock with its hash, the build backend too, so nothing is resolved here.
$(STAMP): requirements.lock pyproject.toml tools/make_venv.sh
	@PYTHON="$(PYTHON)" tools/make_venv.sh $(VENV)
	$(BIN)/python -m pip install --quiet --use-pep517 --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: install
	@$(BIN)/isthmus demo

test: install
	@tools/system_packages.sh $(TOOLS)
	@tools/npm_packages.sh tests/node
	$(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 40

test-long: install
	@tools/system_packages.sh $(TOOLS)
	@tools/npm_packages.sh tests/node
	$(BIN)/python -m pytest -m long --hypothesis-profile exploring -o faulthandler_timeout=0

lint: install
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy $(CHECKED)

format: install
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: install
	@benchmarks/bench.sh

docs: install
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/conformance.py

# The software bill of materials, CycloneDX in JSON, of what the lock file pins.
sbom: install
	$(BIN)/python tools/sbom.py --output sbom.cdx.json

# Resolves anew within the bounds of pyproject.toml, for every Python from 3.11 on, and of tests/node/package.json; the
# files name no registry.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --quiet \
		--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/python tools/node_lock.py tests/node

clean:
	rm -rf $(VENV) tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/mqttload
	find src tests benchmarks tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
