#!/usr/bin/env bash
# Install the npm packages that the tests compare with, exactly as locked, when npm is here.
set -euo pipefail
cd "$(dirname "$0")/node"

if ! command -v npm >/dev/null; then
    echo "tests that need Node.js and npm are skipped"
    exit 0
fi
if [ node_modules/.complete -nt package-lock.json ]; then exit 0; fi
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
touch node_modules/.complete
