#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What people see: the verdict first, three places a finding, all of them on demand, colour where it is wanted; and
# output that cannot be written is an error.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed
cp clean.qed many.qed
for i in 2 3 4 5 6; do
    poke many.qed $((L2 + 8 * i)) $((0x7fff0000 + i * C))
done

vd clean.qed
expect 0
silent err
[ "$(cat "$told/out")" = 'clean.qed: clean: nothing wrong' ] || fail "more than one line about a clean image"

vd many.qed
expect 4
silent err
[ "$(head -n 1 "$told/out")" = 'many.qed: DAMAGED: 5 corruptions' ] || fail "the first line is not the verdict"
[ "$(grep -c 'found 0x7fff' "$told/out")" -eq 0 ] || [ "$(grep -c 'found 0x' "$told/out")" -eq 3 ] ||
    fail "not three places of five"
says out '5 times'
says out '--verbose'
says out 'vdcheck salvage many.qed'
says out 'vdcheck --repair=all --dry-run many.qed'
says out '[qed.l2-entry-out-of-file]'
says out '128 KiB'     # where in the guest
vd -v many.qed
expect 4
[ "$(grep -c 'found 0x' "$told/out")" -eq 5 ] || fail "--verbose does not list each place"
vd --verbose --output=json many.qed
[ "$(grep -c '"host_offset"' "$told/out")" -eq 5 ] || fail "JSON does not list each place"

# a hundred places in JSON, all with --verbose; in a table that is not garbage
cp clean.qed hundred.qed
"$VDCHECK" io -q -c 'write -P 9 1G 100M' hundred.qed
table=$(peek hundred.qed $L1)
for ((i = 0; i < 130; i++)); do
    poke hundred.qed $((table + 8 * (i + 2))) $((0x7fff0000 + i * C))
done
vd --output=json hundred.qed
expect 4
says out '"count": 130'
[ "$(grep -c '"host_offset"' "$told/out")" -eq 100 ] || fail "not the first 100 places"
vd --output=json -v hundred.qed
[ "$(grep -c '"host_offset"' "$told/out")" -eq 130 ] || fail "--verbose does not list each"

# only the exit status, and errors
vd -q many.qed clean.qed
expect 4
silent out
silent err
vd -q --output=json many.qed
expect 4
silent out
vd -q --repair=all many.qed
expect 1
silent out
silent err
vd undo -q many.qed
expect 0
silent out
silent err
vd -q nosuch
expect 8
silent out
says err nosuch

# output that does not arrive
for words in clean.qed many.qed '--output=json clean.qed' '--output=qemu-json clean.qed' 'info clean.qed' 'map clean.qed' \
    'map --output=json clean.qed' 'info --output=json clean.qed' 'explain' 'explain qed.tail-leaked' 'formats' '--help' \
    '--version' 'io -r -c map clean.qed'; do
    # shellcheck disable=SC2086 # words
    "$VDCHECK" $words >/dev/full 2>"$told/err"
    status=$?
    ran="vdcheck $words >/dev/full"
    : >"$told/out"
    [ $((status & 8)) -eq 8 ] || fail "a full device goes unnoticed: exit status $status"
    says err 'cannot write the output'
    says err 'No space left'
    # shellcheck disable=SC2086
    "$VDCHECK" $words >&- 2>"$told/err"
    status=$?
    ran="vdcheck $words >&-"
    [ $((status & 8)) -eq 8 ] || fail "a closed output goes unnoticed: exit status $status"
    says err 'cannot write the output'
done
"$VDCHECK" many.qed >/dev/full 2>"$told/err"
status=$?
expect 12
"$VDCHECK" --repair=all many.qed >/dev/full 2>"$told/err"
status=$?
expect 9
"$VDCHECK" undo many.qed >/dev/full 2>"$told/err"
status=$?
expect 8
vd many.qed
expect 4
"$VDCHECK" --output=json many.qed 2>"$told/err" | true
status=${PIPESTATUS[0]}
[ "$status" -eq 4 ] || [ "$status" -eq 12 ] || fail "a closed pipe ends with status $status"

# nothing of ours is taken for colour where it is not a terminal
vd many.qed
holds_not "an escape sequence in a file" grep -q "$(printf '\033')" "$told/out"
if has_command script; then
    # on_terminal VARIABLE=VALUE...: the output as a terminal gets it
    on_terminal()
    {
        run env "$@" script -qec "'$VDCHECK' --no-progress many.qed" /dev/null
        ran="vdcheck many.qed on a terminal with $*"
    }
    esc=$(printf '\033')
    on_terminal TERM=xterm
    says out "${esc}[31m"
    says out "${esc}[0m"
    on_terminal TERM=xterm NO_COLOR=1
    lacks out "$esc"
    on_terminal TERM=xterm NO_COLOR=     # empty is not set
    says out "${esc}[31m"
    on_terminal TERM=dumb
    lacks out "$esc"
    run script -qec "TERM=xterm '$VDCHECK' --no-progress --output=json many.qed" /dev/null
    lacks out "$esc"
else
    skip_part "no script(1) to make a terminal with"
fi

# progress goes to standard error, where it is wanted
"$VDCHECK" io -q -c 'write 2G 64k' -c 'write 4G 64k' -c 'write 6G 64k' clean.qed
vd --progress --throttle=iops=3 clean.qed
expect 0
[ "$(cat "$told/out")" = 'clean.qed: clean: nothing wrong' ] || fail "progress in standard output"
says err 'clean.qed: '
matches err '%'
vd --no-progress --throttle=iops=5 clean.qed
silent err
vd --throttle=iops=5 clean.qed
silent err
finish
