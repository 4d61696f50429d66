#!/bin/sh
# Makes a base image like debian:trixie-slim from Debian packages, for hosts that reach no image registry.
#
# Usage: bootstrap-base.sh [TAG]           TAG: the image's name, default dockerable-base:trixie
# Reads: DEBIAN_MIRROR (default: the mirror that apt uses on a Debian host, else mmdebstrap's default), TMPDIR
# Writes: the image; on the host only the packages that it needs (mmdebstrap, debian-archive-keyring)
# Exits: 0 made; 69 the host has no apt or Docker Engine; 70 a step failed; 77 packages are missing and it is not root
set -eu

TAG=${1:-dockerable-base:trixie}
SUITE=trixie

log() { echo "bootstrap-base.sh: $*" >&2; }
die() { status=$1; shift; log "error: $*"; exit "$status"; }

install_tools() {
    tools=''
    command -v mmdebstrap >/dev/null || tools=mmdebstrap
    [ -e "/usr/share/keyrings/debian-archive-$SUITE-stable.gpg" ] || tools="$tools debian-archive-keyring"
    [ -n "$tools" ] || return 0
    command -v apt-get >/dev/null || die 69 \
        "$TAG is made with Debian's mmdebstrap and this host has no apt: load an image of Debian $SUITE yourself and name it in BASE_IMAGE"
    [ "$(id -u)" = 0 ] || die 77 "missing on this host: $tools (remedy: sudo apt-get install $tools)"
    log "installing $tools"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -q update && echo "$tools" | xargs apt-get -q -y install --no-install-recommends; } >"$work/log" 2>&1 ||
        failed "installing $tools"
}

failed() {
    tail -n 15 "$work/log" >&2
    die 70 "$1 failed (above: the end of its log); can this host reach ${archive:-its package mirror}?"
}

# The files that debian:trixie-slim leaves out of every package.
write_dpkg_exclusions() {
    cat <<'CONF'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/man/*
CONF
}

# Without these settings apt leaves 101 MB of caches in each layer that installs packages.
write_apt_settings() {
    cat <<'CONF'
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT::AutoRemove::SuggestsImportant "false";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
}

# Sets $archive and $security to Debian's mirrors; empty if the host's apt has none, as on Ubuntu.
find_mirrors() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        archive=$DEBIAN_MIRROR/debian
        security=$DEBIAN_MIRROR/debian-security
    else
        archive=$(mirror_of Debian)
        security=$(mirror_of Debian-Security)
    fi
}

# Prints the address of a repository that apt uses. $1: its label.
mirror_of() {
    apt-get indextargets --format "\$(LABEL) \$(REPO_URI)" 'Identifier: Packages' 2>/dev/null | sed -n "s/^$1 //p" |
        sort -u | sed -n 1p
}

write_sources() {
    cat <<CONF
deb $archive $SUITE main
deb $archive $SUITE-updates main
deb $security $SUITE-security main
CONF
}

bootstrap() {
    log "making $TAG from Debian packages"
    write_dpkg_exclusions >"$work/dpkg"
    write_apt_settings >"$work/apt"
    set -- "$SUITE" "$work/base.tar"
    if [ -n "$archive" ] && [ -n "$security" ]; then
        write_sources >"$work/sources"
        set -- "$@" "$work/sources"
    fi
    mmdebstrap --quiet --variant=minbase \
        --dpkgopt="$work/dpkg" --aptopt="$work/apt" \
        --customize-hook="cd \"\$1\" && rm -rf var/lib/apt/lists/* var/cache/debconf/*-old var/log/*.log etc/hostname etc/resolv.conf" \
        "$@" >"$work/log" 2>&1 || failed "mmdebstrap"
    docker import --change 'CMD ["bash"]' "$work/base.tar" "$TAG" >"$work/log" 2>&1 || failed "docker import"
}

main() {
    docker version >/dev/null 2>&1 || die 69 "no Docker Engine answers (remedy: dockerable/host/install-engine.sh)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    archive=''
    install_tools
    find_mirrors
    bootstrap
}

main
