#!/bin/sh
# Make .venv-extra (some 1 GB), and see that there are a Java for Spark, and a Prometheus.
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
if ! command -v prometheus >/dev/null 2>&1 && [ ! -x build/prometheus/usr/bin/prometheus ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Prometheus is needed: install it." >&2
        exit 1
    fi
    echo "Unpacking a Prometheus into build/prometheus"
    if [ "$(id -u)" = 0 ]; then apt-get update -qq; fi
    mkdir -p build/prometheus
    # Not installed: Debian's package would start a service.
    (cd build/prometheus && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .)
fi
sh local/environment.sh extra spark
