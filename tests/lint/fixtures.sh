#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every finding has a fixture of its name, every fixture (but for its variant behind a dot) the name of a finding, and every
# fixture is whole and run.
set -u
shopt -s nullglob
cd "${srcdir:-.}" || exit 1

bad=0
complain() {
    echo "$*"
    bad=1
}

ids() { # FILE: the ids of its rows
    sed -n 's/^F([A-Z0-9_]*, "\([^"]*\)".*/\1/p' "$1"
}

every_finding_has_a_folder() { # FILE FOLDER
    local id
    for id in $(ids "$1"); do
        [ -d "$2/${id#*.}" ] || complain "$1: $id has no fixture $2/${id#*.}"
    done
}

is_whole() { # FOLDER ID
    local file name
    for name in recipe check.txt check.json repair.txt repair.json; do
        [ -f "$1/$name" ] || complain "$1: $name is missing"
    done
    for file in "$1"/* "$1"/.[!.]*; do
        name=${file##*/}
        case $name in
            recipe | check.txt | check.json | repair.txt | repair.json) ;;
            repair-leaks.txt | repair-all.txt) [ -f "${file%.txt}.json" ] || complain "${file%.txt}.json is missing" ;;
            repair-leaks.json | repair-all.json) [ -f "${file%.json}.txt" ] || complain "${file%.json}.txt is missing" ;;
            *) complain "$file: no file of a fixture" ;;
        esac
    done
    grep -q "\"id\": \"$2\"" "$1/check.json" || complain "$1: the check does not report $2"
}

every_folder_shows_a_finding() { # FILE FOLDER
    local folder id
    for folder in "$2"/*/; do
        folder=${folder%/}
        id=${folder#fixtures/}
        id=${id/\//.}
        ids "$1" | grep -qxF "$(cut -d. -f1,2 <<< "$id")" || complain "$folder: no finding of $1 has this name"
        is_whole "$folder" "$(cut -d. -f1,2 <<< "$id")"
    done
}

for rows in formats/image-findings.def formats/*/findings.def; do
    format=image
    [ "$rows" = formats/image-findings.def ] || format=$(basename "$(dirname "$rows")")
    every_finding_has_a_folder "$rows" "fixtures/$format"
    every_folder_shows_a_finding "$rows" "fixtures/$format"
    [ -f "tests/fixture/$format.sh" ] || complain "no tests/fixture/$format.sh runs fixtures/$format"
    grep -qw "tests/fixture/$format.sh" tests/fixture/fixture.mk || complain "fixture.mk does not run fixtures/$format"
done
exit $bad
