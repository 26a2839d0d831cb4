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
want chromium-headless-shell -- chromium-headless-shell
want spamassassin spamc spamd -- spamd
want nodejs npm -- npm
want postgresql -- pg_ctlcluster
want wrk -- wrk
want groff-base -- groff
want nginx-light -- nginx
want caddy -- caddy
want nsd -- nsd
want prometheus -- prometheus
want systemd -- systemd-analyze
# For the pictures in the documentation: Chinese, Japanese and Korean, and emoji.
fonts=/usr/share/fonts/truetype
[ -d $fonts/wqy ] || packages+=(fonts-wqy-zenhei)
[ -f $fonts/noto/NotoColorEmoji.ttf ] || packages+=(fonts-noto-color-emoji)

# Debian lets one mail server be installed; these two are only unpacked.
unpacked=$(dirname "$0")/unpacked
also=()
[ -d "$unpacked/opensmtpd" ] || also+=(opensmtpd)
[ -d "$unpacked/exim" ] || also+=(exim4-daemon-light)

if [ ${#packages[@]} = 0 ] && [ ${#also[@]} = 0 ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "tests that need these are skipped (Debian: apt-get install, as root): ${packages[*]-} ${also[*]-}"
    exit 0
fi
echo "installing for the tests: ${packages[*]-} ${also[*]-}"
export DEBIAN_FRONTEND=noninteractive
# Keep the packages' own services from starting: the tests run instances of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -qq
for name in ${also[@]+"${also[@]}"}; do
    # Their libraries are nobody's rivals.
    while read -r library; do
        packages+=("$library")
    done < <(apt-cache depends "$name" | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }')
done
if [ ${#packages[@]} -gt 0 ]; then
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
for name in ${also[@]+"${also[@]}"}; do
    fetched=$(mktemp -d)
    (cd "$fetched" && apt-get download -qq "$name" 2>/dev/null)
    folder=$unpacked/${name%4-daemon-light}
    mkdir -p "$unpacked"
    dpkg-deb -x "$fetched"/*.deb "$folder.new"
    mv "$folder.new" "$folder"
    rm -rf "$fetched"
done
