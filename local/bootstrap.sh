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

# Whether there is a .venv that works, made with the Python that is named.
is_made() {
    works "$venv/bin/python" &&
        { [ -z "$named" ] || [ "$(version_of "$named")" = "$(version_of "$venv/bin/python")" ]; }
}

stamp="$venv/made-for-$kind"
is_current() {
    is_made && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from "$kind")" ]
}
if is_current; then
    exit 0
fi

free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
if [ "$free_kb" -lt 1000000 ]; then
    echo "Only $((free_kb / 1000)) MB of disk are free here; 1 GB is needed." >&2
    exit 1
fi

if [ ! -w . ]; then
    echo "This folder cannot be written to: $(pwd)" >&2
    exit 1
fi

python=""
for candidate in ${named:+"$named"} python3.14 python3.13 python3.12 python3.11 python3 python "$venv/bin/python"; do
    if works "$candidate"; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer (with venv) is needed: install one, or name it with PYTHON=..." >&2
    exit 1
fi

# One at a time. The system frees the lock with the last process that has descriptor 9 open.
mkdir -p .local
exec 9>.local/environment.lock
"$python" -c '
import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another installation into .venv", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
'
if is_current; then
    exit 0
fi

if ! is_made; then
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
