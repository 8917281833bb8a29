#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An image that somebody writes is not checked and never repaired; one that is only read is checked by all at once.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample a.qed
leaking a.qed b.qed

pids=()
clean_up_more() { [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null; }

# hold FILE [WORD...]: a vdcheck io that keeps the file open until release
hold()
{
    local file=$1

    shift
    rm -f held
    "$VDCHECK" io -q "$@" -c 'sleep 600000' "$file" >held 2>&1 &
    pid=$!
    pids+=("$pid")
    wait_for 10 grep -q "OFDLCK.*:$(stat -c %i "$file") " /proc/locks || skip "no OFD locks in /proc/locks"
}

release()
{
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
    pids=()
}

# ---- a writer
hold b.qed
cp b.qed before
for words in '' -v --deep --if-dirty -c; do
    # shellcheck disable=SC2086 # words
    vd $words b.qed
    expect 64
    says out 'b.qed: in use'
    says out 'another program'
done
vd -q b.qed
expect 64
silent out
says err 'b.qed'
vd --output=json b.qed
expect 64
says out '"status": "busy"'
says out '"path": "b.qed"'
vd --exit-code=qemu b.qed
expect 1
vd --exit-code=qemu --output=qemu-json b.qed
expect 1
silent out
for level in leaks safe all; do
    vd --repair=$level b.qed
    expect 64
    vd --repair=$level --output=json b.qed
    expect 64
    says out '"status": "busy"'
    vd --repair=$level --dry-run b.qed
    expect 64
done
vd undo b.qed
[ "$status" -eq 8 ] || [ "$status" -eq 64 ] || fail "status $status"
vd a.qed b.qed nosuch
expect 72
says out 'a.qed: clean'
# the others are repaired, the one in use is skipped
leaking a.qed c.qed
vd --repair b.qed c.qed
expect 65
for words in 'map' 'info' 'io -c map' 'io -r -c map' 'salvage'; do
    # shellcheck disable=SC2046,SC2086 # words
    vd $words b.qed $([ "$words" != salvage ] || echo out.raw)
    expect 64
    says err 'b.qed'
done
[ ! -e out.raw ] || fail "an output without an input"
same b.qed before
[ "$(ls b.qed*)" = b.qed ] || fail "left behind: $(ls b.qed*)"

# all the same, where it is asked for; hints, and said to be
vd -U b.qed
expect 4
says out image.in-use
says out qed.cluster-leaked
vd --force-share --output=json b.qed
expect 4
says out '"status": "leaking"'
for words in map info salvage; do
    # shellcheck disable=SC2046
    vd $words -U b.qed $([ "$words" != salvage ] || echo out.raw)
    expect 0
done
rm -f out.raw
vd -U --repair b.qed
expect 16
release
vd -U b.qed
lacks out image.in-use
vd b.qed
expect 4

# ---- readers do not keep each other out, and keep a writer out
hold b.qed -r
vd b.qed
expect 4
vd --repair --dry-run b.qed
expect 4
vd io -r -q -c 'read -P 1 0 64k' b.qed
expect 0
vd --repair b.qed
expect 64
vd io -c 'write 0 1' b.qed
expect 64
same b.qed before
release

# ---- a repair keeps everybody out until it is done, and a check does so with writers
for words in "--throttle=iops=1" "--repair --throttle=iops=1"; do
    # shellcheck disable=SC2086
    "$VDCHECK" $words b.qed >held 2>&1 &
    pid=$!
    pids+=("$pid")
    wait_for 10 grep -q "OFDLCK.*:$(stat -c %i b.qed) " /proc/locks
    vd io -c 'write 0 1' b.qed
    expect 64
    vd --repair b.qed
    expect 64
    vd b.qed
    if [ "$words" = "--throttle=iops=1" ]; then
        expect 4
    else
        expect 64
        vd undo b.qed
        [ "$status" -eq 64 ] || [ "$status" -eq 8 ] || fail "undo during a repair"
    fi
    release
    rm -f b.qed.*
    same b.qed before
done

# ---- a member of a chain counts like the image itself
"$VDCHECK" create -f qed -b b.qed -F qed top.qed 8G
hold b.qed
vd top.qed
expect 0
vd -c top.qed
expect 64
says out b.qed
vd -c --repair=all top.qed
expect 64
vd io -r -c 'read 1G 1' top.qed
expect 64
release

finish
