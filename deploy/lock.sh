#!/bin/sh
# Resolves requirements/*.in into hashed lock files for CPython 3.11 to 3.13.
set -eu
python=$1
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools"
"$tools/bin/pip" install --quiet uv
for name in run dev; do
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header "requirements/$name.in" -o "requirements/$name.txt"
done
