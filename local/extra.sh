#!/bin/sh
# Make .venv-extra from requirements-extra.txt and requirements-spark.txt, and see that there is a Java
# for Spark. A stamp holds the hash of what it was made from, so that a second run has nothing to do.
set -eu

venv=.venv-extra
if ! command -v java >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing a Java for Spark (openjdk-17-jre-headless)"
        apt-get update -qq && apt-get install -y -qq openjdk-17-jre-headless >/dev/null
    else
        echo "Spark needs Java 17: install it (Debian: apt-get install openjdk-17-jre-headless)." >&2
        exit 1
    fi
fi

wanted=$(cat requirements-extra.txt requirements-spark.txt local/extra.sh | cksum)
if [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$wanted" ]; then
    exit 0
fi
echo "Installing requirements-extra.txt into $venv (once, some 1 GB, about a minute)"
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes "$@" \
        2>"$venv/pip.log"
}
# Spark is built with the setuptools of the first: pip would fetch the newest, by no hash.
if ! { install -r requirements-extra.txt && install --no-build-isolation -r requirements-spark.txt; }; then
    echo "They cannot be installed; is the package index reachable? $venv/pip.log has what pip said." >&2
    exit 1
fi
echo "$wanted" >"$venv/made-from"
