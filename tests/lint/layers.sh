#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Includes point down only, and a box never includes its neighbour:
#
#     report > repair > checker > formats/open, registry > formats/FORMAT > formats/*.h > formats/node > formats/base
set -u
cd "${srcdir:-.}" || exit 1

grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' checker formats repair report |
    awk -F '[:"]' '
        # How high a file stands.
        function level(file) {
            if (file ~ /^report\//) return 7
            if (file ~ /^repair\//) return 6
            if (file ~ /^checker\//) return 5
            if (file ~ /^formats\/(open|registry)\.[ch]$/) return 4
            if (file ~ /^formats\/drivers\.def$/) return 4
            if (file ~ /^formats\/base\//) return 0
            if (file ~ /^formats\/node\//) return 1
            if (file ~ /^formats\/[^\/]*\//) return 3
            if (file ~ /^formats\//) return 2
            return -1
        }
        function folder(file) {
            sub(/\/[^\/]*$/, "", file)
            return file
        }
        {
            n++
            from = level($1)
            to = level($4)
            if (to < 0)
                why = "is no path from the top folder"
            else if (to > from)
                why = "points upwards"
            else if (from == 3 && to == 3 && folder($1) != folder($4))
                why = "is another format"
            else
                next
            print $1 ":" $2 ": " $4 " " why
            bad = 1
        }
        END { exit bad || n < 100 }' # so few would mean that nothing was looked at
