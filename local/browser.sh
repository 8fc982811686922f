#!/bin/sh
# Make .venv-browser, and see that there is a Chromium for the console's tests.
set -eu

if ! command -v chromium >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing a Chromium for the console's tests"
        apt-get update -qq && apt-get install -y -qq chromium >/dev/null
    else
        echo "The console's tests need Chromium: install it (Debian: apt-get install chromium)." >&2
        exit 1
    fi
fi
sh local/environment.sh browser
