#!/bin/sh
# Make .venv from the pinned requirements, with the first Python from 3.11 to 3.13 that works.
# A stamp holds the hash of what it was made from, so that a second run has nothing to do.
set -eu

venv=.venv
stamp="$venv/made-from"
wanted=$(cat requirements.txt requirements-dev.txt pyproject.toml local/bootstrap.sh | cksum)

if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

works() {
    # Run it: a version manager may have a command of that name which only says what is missing.
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

python=""
for candidate in ${1:+"$1"} python3.13 python3.12 python3.11 python3 python; do
    if works "$candidate"; then
        python="$candidate"
        break
    fi
    if [ "$candidate" = "${1:-}" ]; then
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11, 3.12 or 3.13 (with venv) is needed${1:+ and $1 is not it}: install one, or name it with PYTHON=..." >&2
    exit 1
fi

free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
if [ "$free_kb" -lt 1000000 ]; then
    echo "Only $((free_kb / 1000)) MB of disk are free here; 1 GB is needed." >&2
    exit 1
fi

echo "Installing the requirements into $venv with $("$python" --version) (once, a minute or two)"
if [ ! -x "$venv/bin/python" ] || ! works "$venv/bin/python"; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" 2>"$venv/pip.log"
}
# Our own package without dependencies: it only adds the data-collector command.
if ! { install -r requirements-dev.txt && install --no-deps -e .; }; then
    echo "The requirements cannot be installed; is the package index reachable? pip said:" >&2
    grep '^ERROR' "$venv/pip.log" | tail -2 >&2 || tail -3 "$venv/pip.log" >&2
    exit 1
fi
echo "$wanted" >"$stamp"
