#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Signals: a check ends with 32; a repair leaves the image as it was before, or as after the whole repair; SIGUSR1 asks
# how far it is.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed
shared clean.qed work.qed
poke work.qed $((L2 + 16)) "$(peek work.qed $L2)"
cp work.qed before
cp work.qed repaired.qed
"$VDCHECK" -q --repair=all repaired.qed
"$VDCHECK" -q repaired.qed || fail "the example is not repaired"
rm repaired.qed.*

# start WORD...: vdcheck in the background, its pid in $pid
start()
{
    ran="vdcheck $*, and a signal"
    status=
    "$VDCHECK" "$@" >"$told/out" 2>"$told/err" </dev/null &
    pid=$!
}

# ended: its exit status in $status; a hang is a failure
ended()
{
    if wait_for 20 eval "! kill -0 $pid"; then
        wait "$pid"
        status=$?
    else
        fail "still there after the signal"
        kill -KILL "$pid"
        wait "$pid"
    fi
}

# asleep: the process waits for its throttle, so it has begun and its handlers are set
asleep()
{
    grep -q '^State:.S' "/proc/$pid/status"
}

# ---- a check
for signal in TERM INT HUP; do
    start --throttle=iops=3 work.qed clean.qed
    wait_for 10 asleep
    # what runs in the background of a script ignores SIGINT unless the program asks for it
    kill -$signal $pid
    ended
    expect 32
    says out 'work.qed'
    says out 'cancelled'
    lacks out 'clean: '
    lacks out 'nothing wrong'
    same work.qed before
done
start --throttle=iops=3 --output=json work.qed
wait_for 10 asleep
kill -TERM $pid
ended
expect 32
says out '"status": "error"'
says out 'cancelled'
says err 'cancelled'
start --throttle=iops=3 -q --exit-code=qemu work.qed
wait_for 10 asleep
kill -TERM $pid
ended
expect 1
says err 'cancelled'

# ---- a repair that is still worked out: as before, and nothing is left
for words in --repair '--repair=all --dry-run' '--repair --undo-file=elsewhere'; do
    # shellcheck disable=SC2086 # words
    start --throttle=iops=3 $words work.qed
    wait_for 10 asleep
    kill -TERM $pid
    ended
    expect 32
    same work.qed before
    [ "$(ls work.qed* elsewhere 2>/dev/null)" = work.qed ] || fail "left behind: $(ls)"
done

# ---- a repair that is being written: it is finished first
# caught: a repair of work.qed is stopped where the journal holds all of it and the image a part of it. Whether it is
# there is asked while it stands still, so that a busy machine costs another try and never the answer.
caught()
{
    local tries=0

    while [ $tries -lt 10 ]; do
        tries=$((tries + 1))
        rm -f work.qed.*
        cp before work.qed
        start --throttle=iops=30 --repair=all work.qed
        while kill -STOP $pid 2>/dev/null && wait_for 10 grep -q '^State:.[TZ]' "/proc/$pid/status"; do
            grep -q '^State:.Z' "/proc/$pid/status" && break
            if [ -s work.qed.vdcheck-undo ] && [ ! -e work.qed.vdcheck-undo-journal ] && ! cmp -s work.qed before &&
                ! cmp -s work.qed repaired.qed; then
                return 0
            fi
            kill -CONT $pid
            sleep 0.02
        done
        wait $pid
    done
    fail "the repair was never met half-way"
    return 1
}
for signal in TERM INT; do
    caught || continue
    kill -$signal $pid
    kill -CONT $pid
    ended
    [ $((status & ~33)) -eq 0 ] || fail "status $status"
    same work.qed repaired.qed
    vd work.qed
    expect 0
    vd undo work.qed
    expect 0
    same work.qed before
done

# ---- killed while it is written: the next repair finishes it, undo takes it back, a look at it writes nothing
if caught; then
    kill -KILL $pid
    wait $pid 2>/dev/null
    mkdir half
    cp work.qed work.qed.vdcheck-undo half/
    vd half/work.qed
    expect 4
    says out image.repair-unfinished
    lacks out corruption       # it is looked at as it will be
    same half/work.qed work.qed
    vd --repair half/work.qed
    expect 1
    same half/work.qed repaired.qed
    vd half/work.qed
    expect 0
    vd undo half/work.qed
    expect 0
    same half/work.qed before
    vd undo work.qed
    expect 0
    same work.qed before
    vd undo work.qed
    expect 8
fi

# ---- how far is it?
start --throttle=iops=2 clean.qed
wait_for 10 asleep
kill -USR1 $pid
sleep 0.7
kill -USR1 $pid
ended
expect 0
matches err 'clean.qed: .*%'
[ "$(cat "$told/out")" = 'clean.qed: clean: nothing wrong' ] || fail "progress in standard output"
start -q --throttle=iops=2 clean.qed
wait_for 10 asleep
kill -USR1 $pid
ended
expect 0
silent out

# ---- other commands
start salvage --throttle=iops=3 clean.qed out.raw
wait_for 10 asleep
kill -TERM $pid
ended
expect 32
says err cancelled
[ ! -e out.raw ] || fail "half a copy is left behind"
start map --throttle=iops=3 clean.qed
wait_for 10 asleep
kill -TERM $pid
ended
expect 32
says err cancelled
finish
