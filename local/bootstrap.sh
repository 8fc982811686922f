#!/bin/sh
# Make .venv fit for one kind of work, with PYTHON or else the first Python from 3.11 on that works:
#     sh local/bootstrap.sh KIND [PYTHON]
# local: make run, deploy and the client; dashboard: those and drawing; dev: all of it and the tests.
# There is one .venv, which grows. A stamp for each kind holds the hash of what it was made from, so
# that a second run has nothing to do.
set -eu

kind=${1:-dev}
named=${2:-}
venv=.venv
case "$kind" in
    local) kinds="local" ;;
    dashboard) kinds="local dashboard" ;;
    dev) kinds="local dashboard dev" ;;
    *)
        echo "There is no kind of environment named $kind; there are local, dashboard and dev." >&2
        exit 2
        ;;
esac

made_from() {
    cat "requirements-$1.txt" pyproject.toml chalicelib/core/version.py local/bootstrap.sh \
        local/install.py | cksum
}

works() {
    # Run it: a version manager may have a command of that name which only says what is missing.
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

version_of() {
    "$1" -c 'import sys; print(*sys.version_info[:2], sep=".")'
}

if [ -n "$named" ] && ! works "$named"; then
    echo "Python 3.11 or newer (with venv) is needed and $named is not it: install one, or name it with PYTHON=..." >&2
    exit 1
fi
python=""
if works "$venv/bin/python"; then
    python="$venv/bin/python"
    if [ -n "$named" ] && [ "$(version_of "$named")" != "$(version_of "$python")" ]; then
        python="" # What is there was made with another one.
    fi
fi

stamp="$venv/made-for-$kind"
if [ -n "$python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from "$kind")" ]; then
    exit 0
fi

free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
if [ "$free_kb" -lt 1000000 ]; then
    echo "Only $((free_kb / 1000)) MB of disk are free here; 1 GB is needed." >&2
    exit 1
fi

if [ -z "$python" ]; then
    for candidate in ${named:+"$named"} python3.14 python3.13 python3.12 python3.11 python3 python; do
        if works "$candidate"; then
            python="$candidate"
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "Python 3.11 or newer (with venv) is needed: install one, or name it with PYTHON=..." >&2
        exit 1
    fi
    echo "Making $venv with $("$python" --version) (once)"
    case "$(version_of "$python")" in
        "" | 3.11 | 3.12 | 3.13 | 3.14) ;;
        *) echo "It is newer than what this was tried with, 3.11 to 3.14. If it fails, name one of those with PYTHON=..." >&2 ;;
    esac
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "Installing requirements-$kind.txt into $venv (once)"
"$venv/bin/python" -m local.install "requirements-$kind.txt"
for each in $kinds; do
    made_from "$each" >"$venv/made-for-$each"
done
