#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# autogen.sh             makes configure and Makefile.in from a fresh clone
# autogen.sh --packages PACKAGE:WITNESS...
#                        installs the Debian packages whose witness (a command, or a file) is missing: as root or with
#                        passwordless sudo; otherwise it prints the command and stops
set -e
cd "$(dirname "$0")"

is_there() {
    case $1 in
        /*) test -e "$1" ;;
        *) command -v "$1" > /dev/null 2>&1 ;;
    esac
}

install_packages() {
    missing=
    for pair in "$@"; do
        is_there "${pair#*:}" || missing="$missing ${pair%%:*}"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2> /dev/null; then
        as_root=sudo
    else
        echo "These packages are missing; install them and try again:" >&2
        echo "    sudo apt-get install$missing" >&2
        exit 1
    fi
    if ! command -v apt-get > /dev/null 2>&1; then
        echo "Install what Debian calls:$missing" >&2
        exit 1
    fi
    echo "Installing$missing"
    $as_root apt-get update -q > /dev/null
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing > /dev/null
}

if [ "$1" = --packages ]; then
    shift
    install_packages "$@"
    exit
fi

# One line of formats/drivers.def is all that a format needs: its fragment of the Makefile comes from there.
{
    echo '# Made by autogen.sh from formats/drivers.def.'
    # shellcheck disable=SC2016 # make's variable
    sed -n 's|^VD_DRIVER(\([a-z0-9]*\)).*|include $(top_srcdir)/formats/\1/format.mk|p' formats/drivers.def
} > formats/drivers.mk
autoreconf --install --force
