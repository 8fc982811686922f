#!/bin/sh
# Write requirements*.txt from requirements*.in: all that is installed, with the hashes of all its
# files, for every Python from 3.11 on, operating system and processor at once:
#     sh local/lock.sh [OPTIONS OF uv pip compile]
# What is locked already keeps its version; `--upgrade` or `--upgrade-package NAME` lets it move.
set -eu

lock() {
    name=$1
    shift
    echo "$name.txt"
    # Without this machine's configuration of uv, so that everybody gets the same files.
    .venv/bin/uv pip compile --no-config --quiet --universal --python-version 3.11 \
        --generate-hashes --emit-build-options --custom-compile-command "make lock" \
        "$@" "$name.in" --output-file "$name.txt"
}

# Wheels alone: nothing is built here, so nothing is fetched to build it with.
wheels="--only-binary :all:"
# The tests' environment first: what ships and what the laptop runs is what was tested.
lock requirements-dev $wheels "$@"
for name in requirements requirements-local requirements-dashboard; do
    lock "$name" $wheels --constraints requirements-dev.txt "$@"
done
lock requirements-cloud $wheels "$@"
lock requirements-audit $wheels "$@"
lock requirements-extra $wheels "$@"
lock requirements-bench $wheels --constraints requirements-dev.txt "$@"
lock requirements-browser $wheels "$@"
lock requirements-endpoint $wheels "$@"
lock requirements-docs $wheels "$@"
# These come as source alone.
lock requirements-spark "$@"
lock requirements-localstack --constraints requirements-local.in "$@"
