#!/bin/sh
# Make .venv-NAME from requirements-NAME.txt, beside .venv and with its Python:
#     sh local/environment.sh NAME
# A stamp holds the hash of what it was made from, so that a second run has nothing to do.
set -eu

name=$1
venv=.venv-$name
wanted=$(cat "requirements-$name.txt" local/environment.sh | cksum)
if [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$wanted" ]; then
    exit 0
fi
echo "Installing requirements-$name.txt into $venv (once, a minute or two)"
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "requirements-$name.txt" 2>"$venv/pip.log"; then
    echo "They cannot be installed; is the package index reachable? $venv/pip.log has what pip said." >&2
    exit 1
fi
echo "$wanted" >"$venv/made-from"
