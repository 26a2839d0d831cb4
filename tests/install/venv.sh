#!/usr/bin/env bash
# Make a virtual environment with the locked dependencies and the project itself.
# usage: venv.sh PYTHON DIRECTORY
set -euo pipefail
python=$1 venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "mailer needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1)." >&2
    echo "Install one, then: make setup PYTHON=python3.12" >&2
    exit 1
}
if ! "$python" -m venv --clear "$venv" 2>/tmp/venv-error.$$; then
    # Debian ships the venv module without pip in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        "$python" -m venv --clear "$venv"
    else
        cat /tmp/venv-error.$$ >&2
        echo "Install Python's venv module first (Debian: apt-get install python3-venv), then: make setup" >&2
        exit 1
    fi
fi
rm -f /tmp/venv-error.$$
# Trust what the machine trusts, as pip does: some networks have a certificate of their own.
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
# The mails that flufl.bounce is tested with are in its source alone; the tests read them there.
flufl=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("flufl.bounce"))')
mkdir -p "$venv/share"
"$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary flufl.bounce --dest "$venv/share" "flufl.bounce==$flufl" ||
    echo "no source of flufl.bounce $flufl: its mails are not tested here" >&2
