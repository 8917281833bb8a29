#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Pages of `vdcheck report --output=html` in Chromium: browser.sh SHOTS, a folder for screenshots.
# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# first_of COMMAND...: the first that is installed; 1: none
first_of()
{
    local command

    for command in "$@"; do
        has_command "$command" && echo "$command" && return
    done
    return 1
}

chromium=${CHROMIUM:-$(first_of chromium chromium-browser google-chrome || echo chromium)}
chromedriver=${CHROMEDRIVER:-$(first_of chromedriver chromium.chromedriver || echo chromedriver)}
has_command "$chromium" || skip "no chromium (Debian: apt-get install chromium)"
has_command "$chromedriver" || skip "no chromedriver (Debian: apt-get install chromium-driver)"
for tool in python3 sqlite3; do
    has_command $tool || skip "no $tool"
done
mkdir -p "$1" || exit 99

# page N: N.html, of the database N.db
page()
{
    vd report --exit-zero --output=html "$1.db"
    expect 0
    cp "$told/out" "$1.html"
}

mkdir empty
vd audit --db=0.db empty
page 0
mkdir farm
sample farm/plain.qed
vd audit --db=10.db farm
# more in the second run, so that something is new
strange_farm farm
sleep 0.1
vd audit --db=10.db farm
page 10
cp 10.db 10000.db
inflate 10000.db 10000
page 10000
[ "$failures" -eq 0 ] || finish
# Python leaves nothing beside its sources.
PYTHONDONTWRITEBYTECODE=1 python3 "$srcdir/tests/browser/browser.py" "$chromium" "$chromedriver" "$PWD" "$1" || failures=1
finish
