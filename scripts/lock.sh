#!/bin/sh
# Writes requirements/dev.txt (hashes, no index) and requirements/pyright.lock from their sources. Needs the network.
# The resolver lives in a temporary environment: it writes the lock and is no part of it.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "lock: fetching the resolver"
.venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet uv

echo "lock: resolving for Python >= 3.11"
# --universal: one lock for 3.11 and later on every platform. UPGRADE=1 takes newer releases than the lock has.
"$work/venv/bin/uv" pip compile pyproject.toml requirements/dev.in --extra build --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-annotate --quiet ${UPGRADE:+--upgrade} \
    --custom-compile-command "make lock" --output-file requirements/dev.txt

echo "lock: pyright"
rm -f requirements/pyright.lock
.venv/bin/deno install --quiet --config requirements/pyright.json --frozen=false
