#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What report/contrib says of vdcheck is so: the options stand in its help, and its files are what they are taken for, as
# far as the programs that know are here.
set -u
cd "${srcdir:-.}" || exit 1

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0 n=0
complain() {
    echo "$*"
    bad=1
}

# The command lines, each in one line: from the program's name to the line's end, with what is continued.
for file in report/contrib/*; do
    grep -q "^	$file" report/report.mk || complain "$file is not in report/report.mk"
    lines=0
    while read -r command words; do
        lines=$((lines + 1))
        for word in $words; do
            case $word in
                --*) word=${word%%[=\"\']*} ;;
                *) continue ;;
            esac
            n=$((n + 1))
            "$VDCHECK" "$command" --help | grep -q -- "$word\([ =[].*\)\?$" || complain "$file: $command has no option $word"
        done
    done < <(sed -e ':a' -e '/\\$/{N;s/\\\n//;ba}' "$file" | grep -v '^ *#' |
        grep -oE '(/usr/bin/vdcheck|"\$vdcheck"|[^-/"A-Za-z]vdcheck) (audit|report) .*' | sed -E 's/^.?[^ ]*vdcheck"? //')
    case $file in
        *.timer) ;;
        *) [ $lines -gt 0 ] || complain "$file calls no vdcheck" ;;
    esac
done
[ $n -ge 15 ] || complain "only $n options were looked at"

# Parts and their number
[ "$(sed -n 's/^ *completions: //p' report/contrib/vdcheck-kubernetes.yaml)" = "$(grep -A 1 'name: VDCHECK_SHARDS' \
    report/contrib/vdcheck-kubernetes.yaml | sed -n 's/^ *value: "\(.*\)"$/\1/p')" ] || complain "completions and VDCHECK_SHARDS differ"

if command -v systemd-analyze > /dev/null; then
    # where it is not installed, the program is the one at hand
    for file in report/contrib/*.service report/contrib/*.timer; do
        sed -e "s|/usr/bin/vdcheck|$VDCHECK|" -e '/^Documentation=/d' "$file" > "$tmp/${file##*/}"
    done
    systemd-analyze verify "$tmp"/*.service "$tmp"/*.timer > "$tmp/out" 2>&1 || bad=1
    grep -F vdcheck "$tmp/out" && bad=1
else
    echo "in part: no systemd-analyze"
fi
if python3 -c 'import yaml' 2> /dev/null; then
    python3 -c 'import sys, yaml
for d in yaml.safe_load_all(sys.stdin): assert d["kind"] == "CronJob" and d["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]' \
        < report/contrib/vdcheck-kubernetes.yaml || bad=1
else
    echo "in part: no YAML parser"
fi
if command -v shellcheck > /dev/null; then
    shellcheck report/contrib/*.sh || bad=1
fi
bash -n report/contrib/vdcheck-slurm.sh || bad=1
exit $bad
