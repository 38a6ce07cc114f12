# `make` lists the targets. PROFILE=release builds the demo optimised (a much longer build).
PROFILE ?= dev
export WEIR_TEST_CACHE ?= $(HOME)/.cache/weir-tests

help:      ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo:      ## build, make a demo lake in ./weir-demo, share and serve it on 127.0.0.1:8080
	cargo run --profile $(PROFILE) -- demo

test: setup  ## install what the tests need, start PostgreSQL, run every test
	tests/setup/with-services $(MAKE) --no-print-directory rust-tests client-tests

setup:     ## install what the tests need (Python clients, Spark, Azurite), without running any
	tests/setup/install

rust-tests:  ## the Rust tests alone; databases and object stores as WEIR_TEST_* name them
	cargo test

classification:  ## how well scans propose classes: precision and recall by class
	cargo test --test it catalog::classification:: -- --nocapture

mutants:   ## see that mistakes planted into the server are found by its tests
	tests/mutants/run

client-tests:  ## the real clients alone, against the debug build
	cargo build --bin weir --example s3_server
	$(WEIR_TEST_CACHE)/venv/bin/pytest tests/python

image:     ## the container image `weir`, its base images made from Debian's packages (docker/bases says what it needs)
	docker/bases

image-test: setup  ## run that image as it is meant to be run, with the demo, and with PostgreSQL and S3 (ENGINE=podman)
	cargo build --example s3_server
	tests/setup/with-services $(WEIR_TEST_CACHE)/venv/bin/python tests/image/run

lint:      ## formatting and clippy, warnings refused
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

deny:      ## the dependency tree by deny.toml: bans, licences, sources, and advisories where they are reached
	tests/setup/deny

bench:     ## the benchmarks, written to docs/benchmarks.md (BENCH=--quick: small and short; BENCH=--help: what else)
	cargo build --release --bin weir $(addprefix --example ,generate load s3_server yardsticks yardstick_server)
	tests/setup/with-services $(or $(wildcard $(WEIR_TEST_CACHE)/venv/bin/python),python3) benches/report $(BENCH)

sbom:      ## the bill of materials, CycloneDX 1.5, as weir.cdx.json (takes cargo-cyclonedx, installed if absent)
	command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx --version 0.5.9
	cargo cyclonedx --format json --spec-version 1.5 --override-filename weir.cdx

clean:     ## remove build output and what the tests installed
	cargo clean
	rm -rf $(WEIR_TEST_CACHE)

.PHONY: help demo test setup rust-tests classification mutants client-tests image image-test lint deny bench sbom clean
