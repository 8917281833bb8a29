#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What can be looked up: the findings, the formats, and what an image's header says.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# ---- explain: every id of the list has its page
vd explain
expect 0
silent err
cp "$told/out" list
[ "$(wc -l <list)" -ge 50 ] || fail "fewer findings than there are"
awk '{print $1}' list | sort | uniq -d | grep . && fail "an id stands in the list twice"
while read -r id severity level message; do
    matches=$(printf '%s\n' "$id" | grep -cE '^[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)+$')
    [ "$matches" -eq 1 ] || fail "$id has not the form format.structure-defect"
    case $severity in corruption | leak | state | warning | error) ;; *) fail "$id has the severity '$severity'" ;; esac
    case $level in leaks | safe | all | none) ;; *) fail "$id has the level '$level'" ;; esac
    # leaks and safe write nothing for a warning
    [ "$severity" != warning ] || [ "$level" = all ] || [ "$level" = none ] || fail "$id: a warning repaired at $level"
    vd explain "$id"
    expect 0
    silent err
    [ "$(head -n 1 "$told/out")" = "$id" ] || fail "explain $id does not begin with its name"
    says out "$(printf %s "$message" | cut -c1-40)"
    says out "Severity: $severity"
    matches out "level.*: $level"
    says out 'Repair:'
    [ "$(wc -w <"$told/out")" -ge 25 ] || fail "$id is hardly explained"
    [ "$(awk '{ if (length($0) > 100) n++ } END { print n + 0 }' "$told/out")" -eq 0 ] || fail "$id: lines too long"
done <list
grep -q '^image\.' list || fail "what holds for all formats is not listed"

# ---- formats
vd formats
expect 0
silent err
for f in qed raw; do
    matches out "^$f "
done
matches out '^qed .*cluster_size'
while read -r name _; do
    [ "$name" = name ] || holds "create -f $name --help" "$VDCHECK" create -f "$name" --help
done <"$told/out"

# ---- info
sample a.qed
vd info a.qed
expect 0
silent err
for text in a.qed qed '8 GiB' 8589934592 '64 KiB' 65536 need-check table-size; do
    says out "$text"
done
matches out 'need-check +no'
matches out 'l1-table-offset +0x10000'
dirty a.qed d.qed
vd info d.qed
expect 0
matches out 'need-check +yes'
matches out 'dirty-flag +yes'
lacks out clean
vd info --output=json d.qed
expect 0
says out '"virtual-size": 8589934592'
says out '"dirty-flag": true'
says out '"need-check": true'
cp a.qed base.qed
"$VDCHECK" create -f qed -b base.qed -F qed o.qed 8G
vd info o.qed
matches out 'backing-filename +base.qed'
matches out 'backing-state +found'
"$VDCHECK" create -f qed -b base.qed -F raw r.qed 8G
vd info r.qed
matches out 'backing-filename-format +raw'
# a header that opens nothing still shows what it says
cp a.qed h.qed
poke h.qed 40 12345
vd info h.qed
expect 0
says out 0x3039
poke h.qed 4 12345 4
vd info h.qed
[ "$status" -eq 0 ] || [ "$status" -eq 8 ] || fail "status $status"
vd info -f raw a.qed
expect 0
matches out 'format +raw'
matches out 'virtual-size +768 KiB'
finish
