#!/usr/bin/env bash
# Install the real servers that the tests talk to, from Debian's packages, when this may be done.
# Written for the bash 3.2 of macOS as well, which says only what is missing.
set -euo pipefail

packages=()
want() { # want PACKAGE… -- PROGRAM: the packages, unless the program is there
    local names=()
    while [ "$1" != -- ]; do
        names+=("$1")
        shift
    done
    if ! PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$2" >/dev/null; then
        packages+=("${names[@]}")
    fi
}
want postfix -- smtp-sink
want opendkim -- opendkim
want dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd -- dovecot
want chromium -- chromium
want spamassassin spamc spamd -- spamd
want nodejs npm -- npm
want postgresql -- pg_ctlcluster
want wrk -- wrk

if [ ${#packages[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "tests that need these are skipped (Debian: apt-get install, as root): ${packages[*]}"
    exit 0
fi
echo "installing for the tests: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
# Keep the packages' own services from starting: the tests run instances of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
