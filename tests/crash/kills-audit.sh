#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Workers of an audit that are killed at one call after another of a repair: the audit goes on and says so; what is left
# is the old image, the new one, or one that the next audit names as image.repair-unfinished, and that is never an error
# of its own; the next audit that repairs leads to the new image, and undo from there to the old one.
# VDCHECK_LONG=1 takes every call.
fixture=${FIXTURE:-$PWD/tests/fixture/fixture}
# shellcheck source=tests/command/functions.sh
. "${srcdir:?}/tests/command/functions.sh"

# A sanitizer cannot look for leaks in a program that is followed.
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
step=5
[ "${VDCHECK_LONG:-0}" = 0 ] || step=1

# mend DB: the audit that is followed, of one worker at a time
mend()
{
    vd audit --db="$1" --undo-dir=undo --repair farm
}

# begin NAME MAKE: the old images, the new ones, and how many calls it takes from the ones to the others
begin()
{
    name=$1
    seen=''
    rm -rf built
    mkdir built
    sample built/clean.qed
    "$2" built/clean.qed built/image.qed
    kill_at 1000000
    [ "$status" -ne 77 ] || skip 'programs cannot be followed here'
    matches err 'it ended after [0-9]+ calls'
    calls=$(sed -n 's/.*ended after \([0-9]*\) calls/\1/p' "$told/err")
    rm -rf repaired
    cp -a farm repaired
    ! cmp -s built/image.qed farm/image.qed || fail "$name: nothing was repaired"
}

# kill_at N: the Nth call of a worker that changes a file is the one that is never made
kill_at()
{
    rm -rf farm undo db*
    cp -a built farm
    sleep 0.05
    run timeout -k 5 120 "$fixture" with "kill-worker-at=$1" farm/image.qed "$VDCHECK" audit --db=db --undo-dir=undo --repair farm
}

judge()
{
    local where="$name, killed at call $1 of $calls" state=half

    ran="$ran, $where"
    matches err 'a worker was killed'
    says out 'the worker died of signal 9'
    [ $((status & 8)) = 8 ] || fail "status $status of an audit whose worker died"
    same built/clean.qed farm/clean.qed
    cmp -s built/image.qed farm/image.qed && state=old
    cmp -s repaired/image.qed farm/image.qed && state=new
    # the same audit has checked it again already; another one knows nothing of that
    cp -a farm left
    vd audit --db=other.db farm
    ran="$ran, $where"
    diff -r farm left >/dev/null || fail "a check changed something"
    rm -rf left
    [ $((status & 8)) = 0 ] || fail "the next audit cannot check it"
    if grep -qF image.repair-unfinished "$told/out"; then
        state=unfinished
    fi
    seen+=" $state"
    [ $state != half ] || fail "half of a repair, and the audit does not say so"
    mend other.db
    ran="$ran, $where"
    [ $((status & 8)) = 0 ] || fail "the next repair fails"
    same repaired/image.qed farm/image.qed
    vd farm/image.qed
    ran="$ran, $where"
    lacks out image.repair-unfinished
    undo_file=$(find undo -name 'image.qed-*' | sort | tail -n 1)
    vd undo "$undo_file"
    ran="$ran, $where"
    expect 0
    same built/image.qed farm/image.qed
    rm -f other.db*
}

first=1
for kind in shared tail_leaking; do
    begin $kind $kind
    for ((n = first; n < calls; n += step)); do
        kill_at $n
        judge $n
    done
    kill_at "$calls"
    judge "$calls"
    for state in old unfinished new; do
        [[ $seen = *" $state"* ]] || fail "$kind: no kill left it $state:$seen"
    done
    first=$((first % step + 1)) # the next one elsewhere
done
finish
