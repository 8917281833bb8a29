#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every command of report/commands.def stands in `vdcheck --help`, and every option of report/options.def in the help of
# its commands.
set -u
cd "${srcdir:-.}" || exit 1

cc=${CC:-cc}
if ! command -v "${cc%% *}" > /dev/null; then
    echo "skipped: no compiler '$cc' to read the rows with"
    exit 77
fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

bad=0
complain() {
    echo "$*"
    bad=1
}

rows() { # FILE DEFINE: what the macro makes of each row
    # shellcheck disable=SC2086 # a compiler with options is a list of words
    printf '#define %s\n#include "%s"\n' "$2" "$1" | $cc -E -P -I. -x c - | grep '^@'
}

# shellcheck disable=SC2034 # the mark at the beginning
while read -r mark symbol word; do
    word=${word//\"/}
    [ "$symbol" = CHECK ] && word=
    # shellcheck disable=SC2086 # no word at all for a check
    "$VDCHECK" $word --help > "$tmp/$symbol" || complain "vdcheck $word --help fails"
    [ -z "$word" ] || grep -q "^  vdcheck $word " "$tmp/CHECK" || complain "vdcheck --help does not name the command $word"
done < <(rows report/commands.def 'CMD(symbol, word, arguments, help) @ symbol word')

# shellcheck disable=SC2034
while read -r mark letter long commands; do
    letter=${letter//\'/}
    long=${long//\"/}
    head=
    [ "$letter" = 0 ] || head=-$letter
    [ "$long" = NULL ] || head="$head${head:+, }--$long"
    [ "$commands" = CMD_ALL ] && commands=$(cd "$tmp" && printf 'CMD_%s ' *)
    for command in ${commands//|/ }; do
        grep -q -- "^  $head\([ =[].*\)\?$" "$tmp/${command#CMD_}" || complain "the help of $command has no option $head"
    done
done < <(rows report/options.def 'OPT(symbol, letter, long, argument, name, commands, help) @ letter long commands')
exit $bad
