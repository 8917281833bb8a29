#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The manual pages are whole: every row of findings.def and of commands.def stands in them, and groff has nothing to say.
set -u
shopt -s nullglob
cd "${srcdir:-.}" || exit 1

pages=${MANUALS:-build}
command_page=$pages/vdcheck.1
finding_page=$pages/vdcheck-findings.7
if ! [ -e "$command_page" ] || ! [ -e "$finding_page" ]; then
    echo "skipped: no manual pages in $pages"
    exit 77
fi

bad=0
complain() {
    echo "$*"
    bad=1
}

words() { # MACRO FILE...: the names that stand in its rows
    sed -n "s/^$1([A-Z0-9_]*, \"\([^\"]*\)\".*/\1/p" "${@:2}" | sort
}

heads() { # PAGE: the words that begin a paragraph
    sed -n 's/\\-/-/g; s/^\.B \([^ ]*\).*/\1/p' "$1" | sort
}

for id in $(comm -23 <(words F formats/image-findings.def formats/*/findings.def) <(heads "$finding_page")); do
    complain "${finding_page##*/} lacks $id"
done
for word in $(comm -23 <(words CMD report/commands.def) <(heads "$command_page")); do
    [ "$word" = check ] || complain "${command_page##*/} lacks $word"
done
for page in "$command_page" "$finding_page"; do
    grep -Hn '@[A-Z]*@' "$page" && complain "${page##*/}: a list is missing"
    if command -v groff > /dev/null && groff -man -ww -Tutf8 -z "$page" 2>&1 | grep .; then
        complain "so says groff of ${page##*/}"
    fi
done
exit $bad
