#!/usr/bin/env bash
# Print one interpreter a line for each supported version of Python on this machine: pyenv's newest, or
# one on the PATH. Only those that can make a virtual environment count.
set -euo pipefail

works() { # works PYTHON VERSION
    [ -x "$1" ] && "$1" -c "
import ensurepip, sqlite3, ssl, sys, venv
sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

for version in 3.11 3.12 3.13 3.14; do
    candidates=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python 2>/dev/null | sort -rV || true)
    for candidate in $candidates "$(command -v "python$version" || true)" "/usr/bin/python$version"; do
        if works "$candidate" "$version"; then
            echo "$candidate"
            break
        fi
    done
done
