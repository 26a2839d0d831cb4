#!/usr/bin/env bash
# Print one interpreter per line for each supported version of Python on this machine: pyenv's newest, or
# one on the PATH. Only those that can create a virtual environment count.
# usage: pythons.sh [NAME]: with NAME (python3.13), print only that one: as it is, if it runs.
set -euo pipefail

works() { # works PYTHON VERSION
    [ -x "$1" ] && "$1" -c "
import ensurepip, sqlite3, ssl, sys, venv
sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

if [ $# = 1 ] && "$1" -c '' 2>/dev/null; then
    echo "$1"
    exit
fi
for version in 3.11 3.12 3.13 3.14; do
    if [ $# = 1 ] && [ "$1" != "python$version" ]; then continue; fi
    candidates=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | sort -rV || true)
    for candidate in $candidates "$(command -v "python$version" || true)" "/usr/bin/python$version"; do
        if works "$candidate" "$version"; then
            echo "$candidate"
            break
        fi
    done
done
