#!/bin/sh
# Make .venv-NAME from requirements-NAME.txt, beside .venv and with its Python, and then install what
# more is named into it:
#     sh local/environment.sh NAME [MORE...]
# A stamp holds the hash of what it was made from, so that a second run has nothing to do.
set -eu

venv=.venv-$1
wanted=$(for each in "$@"; do cat "requirements-$each.txt"; done | cat - local/environment.sh | cksum)
if [ -f "$venv/made-from" ] && [ "$(cat "$venv/made-from")" = "$wanted" ]; then
    exit 0
fi
echo "Installing requirements-$1.txt into $venv (once, a minute or two)"
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
for each in "$@"; do
    # What has no wheel is built with the setuptools of the first: pip would fetch the newest, by no hash.
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --no-build-isolation -r "requirements-$each.txt" 2>"$venv/pip.log"; then
        echo "They cannot be installed; is the package index reachable? $venv/pip.log has what pip said." >&2
        exit 1
    fi
done
echo "$wanted" >"$venv/made-from"
