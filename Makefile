# SPDX-License-Identifier: Apache-2.0
# What one does with this tree. Each target sets up what it needs on a bare Debian or Ubuntu machine; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Node 24 and the tools from npm, and Go where apt's is too old (see scripts/setup), before what the machine has.
export PATH := $(CURDIR)/node_modules/.bin:$(CURDIR)/build/tools/go/bin:$(PATH):/usr/local/go/bin

CMAKE := cmake -G Ninja -S native
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS := $(BPF_SOURCES:bpf/%.c=build/bpf/%.o)

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'

.PHONY: demo
demo: build ## two hosts on this machine, real messages between them (options: DEMO="--seconds 10 --loss 5")
	@bin/outrigger demo $(DEMO)

.PHONY: test
test: setup-test ## every suite; ends with "N passed, N failed"
	@scripts/test

.PHONY: unit
unit: setup-build ## the fast tests only: native and TypeScript units
	@scripts/test native jest-unit

.PHONY: build
build: native ts bpf ## driver, init, addon, sidecar and command

.PHONY: native
native: setup-build build/native/build.ninja
	@ninja -C build/native product
	@for program in outrigger-driver outrigger-init outrigger-probe outrigger-nicd; do ln -sfn native/$$program build/$$program; done

build/native/build.ninja:
	@$(CMAKE) -B build/native

.PHONY: ts
ts: setup-build
	@tsc -p tsconfig.json

.PHONY: bpf
bpf: setup-build $(BPF_OBJECTS)

# Relative paths and no build id: the same source gives the same object.
build/bpf/%.o: bpf/%.c $(wildcard bpf/*.h)
	@mkdir -p $(@D)
	@command -v clang >/dev/null || { echo "bpf: clang is missing, so $@ is not built: install clang (scripts/setup build)" >&2; exit 1; }
	@echo "bpf: $<"
	@clang -O2 -g -target bpf -Wall -Werror -I/usr/include/$$(uname -m)-linux-gnu -c $< -o $@

# IMAGE_VARIANT=dpdk: with DPDK and its drivers. IMAGE_REF: the name that the archive gives it.
IMAGE_VARIANT ?= default

.PHONY: image
image: build ## the container image as an OCI archive, without a container engine: build/image/outrigger.tar
	@node scripts/image/main.mts --variant $(IMAGE_VARIANT)

# For the Dockerfile: the file system of the image, not packed.
.PHONY: image-root
image-root: build
	@node scripts/image/main.mts --variant $(IMAGE_VARIANT) --root-only

.PHONY: bench
bench: setup-bench build ## ours against Aeron and NATS: build/bench/results.json, docs/benchmarks.md
	@ninja -C build/native
	@scripts/bench $(BENCH)

.PHONY: test-lab
test-lab: setup-test build ## NICs that behave like hardware, in an emulated VM: SR-IOV, vfio-pci, zero-copy, netem
	@scripts/test lab

.PHONY: test-cluster
test-cluster: setup-test build ## a real two-node Kubernetes cluster on this machine, and the product in it
	@scripts/test cluster

.PHONY: lint
lint: setup-test ## what `make test` checks first: style, types, format, API rules
	@scripts/test lint

.PHONY: tidy
tidy: setup-test native ## clang-tidy over the native sources (minutes)
	@ninja -C build/native
	@run-clang-tidy -quiet -p build/native "$(CURDIR)/native/src/.*" 2>/dev/null

.PHONY: fuzz
fuzz: setup-test ## each fuzzer for FUZZ_SECONDS (60)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} scripts/test fuzz

.PHONY: docs
docs: build ## the generated parts of docs/ and of the chart
	@node scripts/docs.mts
	@node scripts/crds.mts
	@node scripts/chart.mts

.PHONY: format
format: setup-test ## rewrites C, C++ and TypeScript in the project's format
	@clang-format-14 -i $$(git ls-files -co --exclude-standard 'native/*.cc' 'native/*.h' 'bpf/*.c')
	@prettier --log-level warn --write $$(git ls-files -co --exclude-standard '*.ts' '*.mts' '*.mjs')

.PHONY: setup-build setup-test setup-bench
setup-build setup-test setup-bench: setup-%:
	@scripts/setup build $(if $(filter-out build,$*),$*)

.PHONY: clean
clean: ## removes build/; node_modules stays (make clean-all)
	rm -rf build

.PHONY: clean-all
clean-all: clean
	rm -rf node_modules
