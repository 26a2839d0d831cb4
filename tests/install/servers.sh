#!/usr/bin/env bash
# Install the real servers that the tests talk to, from Debian's packages, when this may be done.
set -euo pipefail
declare -A wanted=(
    [/usr/sbin/postfix]=postfix
    [/usr/sbin/smtp-sink]=postfix
    [/usr/sbin/dovecot]="dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd"
    [/usr/bin/chromium]=chromium
    [/usr/lib/postgresql]=postgresql
)
packages=()
for path in "${!wanted[@]}"; do
    # shellcheck disable=SC2206  # one entry may name several packages
    [ -e "$path" ] || packages+=(${wanted[$path]})
done
if [ ${#packages[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "tests that need these are skipped (install them as root with apt-get): ${packages[*]}"
    exit 0
fi
echo "installing for the tests: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
# Keep the packages' services from starting: the tests run instances of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
