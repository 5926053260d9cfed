# The two commands: `make run` (the main job) and `make test`. Everything they need is installed first,
# said aloud, and skipped when it is already there. On Debian, as root, packages come from apt-get.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
# what `make vm-test` boots (all when empty), how often it cuts the power, and whether it does what takes many minutes
# (it does where no flavour is named)
FLAVOURS :=
DEEP := $(if $(FLAVOURS),,yes)
CUTS := 30
C_SOURCES := $(wildcard syscalls/*.[ch] server/*.[ch] jail/*.[ch] emperor/*.[ch] tuntap/*.[ch] fork_pty/*.[ch] tests/c/*.[ch] tests/jail/*/*.c tests/escape/probe/*.[ch])

PLANE := $(addprefix tuntap/,packet.c offload.c addresses.c bucket.c queue.c reject.c capture.c forward.c tunnel.c frames.c plane.c notes.c seal.c networks.c gateway.c)

.PHONY: help build run test vm-test bench lint format asan conformance package docs clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## The virtual environment and the C extensions
	@scripts/prepare build

run: ## The main job: three jailed customers, each answering curl (Ctrl-C ends it); before it, whom a network reaches
	@scripts/prepare run
	-@examples/network/run
	@examples/hosting/run

test: ## The whole test suite
	@scripts/prepare test
	@scripts/in-the-open $(PYTEST) tests

vm-test: ## Everything in machines of its own: other kernels, systemd, power cuts (an hour)
	@scripts/prepare vm
	$(PYTEST) vm-tests -v --cuts $(CUTS) $(DEEP:%=--deep) $(FLAVOURS:%=--flavour %)

conformance: ## The running cases of ../shared, on an installed copy
	@scripts/prepare test
	@scripts/conformance

bench: ## The benchmarks, with the peers in the same run
	@scripts/prepare bench
	$(PYTHON) benchmarks/http.py
	$(PYTHON) benchmarks/emperor.py
	$(PYTHON) benchmarks/emperor_cost.py
	$(PYTHON) benchmarks/reload.py
	$(PYTHON) benchmarks/jail_steps.py
	$(PYTHON) benchmarks/jail.py
	$(PYTHON) benchmarks/tuntap.py
	$(PYTHON) benchmarks/pty.py

lint: ## ruff, mypy --strict, import-linter, clang-format, clang-tidy
	@scripts/prepare lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PYTHONPATH=src .venv/bin/lint-imports
	clang-format --dry-run --Werror $(C_SOURCES)
	clang-tidy --quiet server/http.c server/http_text.c server/http_chunked.c server/uwsgi.c fork_pty/frames.c -- -std=c11 -D_GNU_SOURCE -Isrc/donjon/server
	clang-tidy --quiet tuntap/firewall.c tuntap/connections.c tuntap/tracking.c tuntap/ruletable.c tuntap/rulematch.c $(PLANE) -- -std=c11 -D_GNU_SOURCE -Isrc/donjon/tuntap

format: ## Rewrite sources in the house format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	clang-format -i $(C_SOURCES)

asan: ## The C code under AddressSanitizer and UBSan: unit tests, a short fuzz, the extensions in Python
	@scripts/prepare test
	$(MAKE) -C tests/c run
	$(MAKE) -C tests/c fuzz SECONDS=10
	@scripts/in-the-open scripts/asan-python

package: ## Wheel and sdist; the main job from the installed wheel
	@scripts/prepare test
	@scripts/check-package

docs: ## Write the option reference from the table
	$(PYTHON) -m donjon.config.options.reference

clean: ## Remove what a build made
	rm -rf build dist .make .venv src/*.egg-info
	find . -name '*.so' -not -path './.venv/*' -delete
