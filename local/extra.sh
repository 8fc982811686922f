#!/bin/sh
# Make .venv-extra (some 1 GB), and see that there is a Java for Spark.
set -eu

if ! command -v java >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing a Java for Spark (openjdk-17-jre-headless)"
        apt-get update -qq && apt-get install -y -qq openjdk-17-jre-headless >/dev/null
    else
        echo "Spark needs Java 17: install it (Debian: apt-get install openjdk-17-jre-headless)." >&2
        exit 1
    fi
fi
sh local/environment.sh extra spark
