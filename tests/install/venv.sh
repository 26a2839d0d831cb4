#!/usr/bin/env bash
# Make a virtual environment with the locked dependencies and the project itself.
# usage: venv.sh PYTHON DIRECTORY [program]
# With `program`, install only `mailer` and its console. Without it, complete such an environment, or make
# a new one, with what the tests and the other targets need.
set -euo pipefail
python=$1 venv=$2 only=${3-}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "mailer needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1)." >&2
    echo "Install one, then: make setup PYTHON=python3.12" >&2
    exit 1
}
# Trust what the machine trusts, as pip does: some networks have a certificate of their own.
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1

make_new() {
    # A pip in the environment takes seconds to install, so the interpreter's own installs uv, if it has one.
    if "$python" -m venv --without-pip --clear "$venv" 2>/dev/null &&
        "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check 'uv>=0.9' 2>/dev/null
    then return; fi
    local said=/tmp/venv-error.$$
    if ! "$python" -m venv --clear "$venv" 2>$said; then
        # Debian ships the venv module without pip in a package of its own.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
            "$python" -m venv --clear "$venv"
        else
            cat $said >&2
            echo "Install Python's venv module first (Debian: apt-get install python3-venv), then: make setup" >&2
            exit 1
        fi
    fi
    rm -f $said
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
}

if [ "$only" = program ]; then
    make_new
    # uv checks the hashes of constraints, too.
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --constraint requirements.lock -e '.[console]'
    exit
fi
if [ -e "$venv/.complete" ] || [ ! -e "$venv/.program" ]; then make_new; fi
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
# The mails that flufl.bounce is tested with are in its source alone; the tests read them there.
flufl=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("flufl.bounce"))')
mkdir -p "$venv/share"
pip=("$venv/bin/python" -m pip)
"${pip[@]}" --version >/dev/null 2>&1 || pip=("$python" -m pip --python "$venv/bin/python")
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary flufl.bounce --dest "$venv/share" "flufl.bounce==$flufl" ||
    echo "no source of flufl.bounce $flufl: its mails are not tested here" >&2
