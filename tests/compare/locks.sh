#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# QEMU and vdcheck keep each other out by locks on the same bytes: each holds an image while the other comes.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/functions.sh"

# a writer: consistent read, write and resize used; write and resize not shared
writer="100 101 103 201 203"
reader="100 201 203"

sample clean.qed
leaking clean.qed a.qed
cp a.qed before
inode=$(stat -c %i a.qed)
mkfifo words

pid=
clean_up_more() { [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; }

# bytes: the bytes of a.qed that are locked now, in order
bytes()
{
    local first last

    grep "OFDLCK .*:$inode " /proc/locks | awk '{ print $(NF - 1), $NF }' | while read -r first last; do
        seq "$first" "$last"
    done | sort -nu | paste -sd ' '
}

holds_bytes()
{
    [ "$(bytes)" = "$*" ]
}

qemu-io -f qed a.qed <words >held 2>&1 &
pid=$!
exec 3>words
wait_for 20 holds_bytes "$writer" || skip "QEMU takes no OFD locks here, or not these: $(bytes)"
exec 3>&-
wait $pid
pid=

# ours BYTES WORD...: a slow vdcheck that holds these bytes until release
ours()
{
    local expected=$1

    shift
    "$VDCHECK" "$@" >held 2>&1 &
    pid=$!
    # shellcheck disable=SC2086 # bytes
    wait_for 20 holds_bytes $expected || fail "vdcheck $*: locked are $(bytes), expected $expected"
}

# theirs BYTES OPTION...: a qemu-io that does
theirs()
{
    local expected=$1

    shift
    qemu-io -f qed "$@" a.qed <words >held 2>&1 &
    pid=$!
    exec 3>words
    # shellcheck disable=SC2086
    wait_for 20 holds_bytes $expected || fail "qemu-io $*: locked are $(bytes), expected $expected"
}

release()
{
    {
        kill -KILL "$pid"
        wait "$pid"
        exec 3>&-
    } 2>/dev/null
    pid=
    wait_for 20 holds_bytes '' || fail "locks stay: $(bytes)"
    rm -f a.qed.*
    same a.qed before
}

# they_can WORD..., they_cannot WORD...: a program of QEMU, with the image as its last word, gets the lock or does not
they_can()
{
    run timeout -k 5 60 "$@" a.qed
    lacks err 'Failed to get'
    lacks out 'Failed to get'
}

they_cannot()
{
    run timeout -k 5 60 "$@" a.qed
    [ "$status" -ne 0 ] || fail "QEMU was not kept out"
    grep -q 'lock' "$told/err" "$told/out" || fail "QEMU speaks of no lock"
}

# ---- QEMU writes: nothing but a look that shares is possible
theirs "$writer"
for words in '' --repair '--repair --dry-run' map info 'io -c map' 'io -r -c map'; do
    # shellcheck disable=SC2086 # words
    vd $words a.qed
    expect 64
done
vd -U a.qed
expect 4
says out image.in-use
vd audit --db=audit.db a.qed
expect 64
says out '1 busy'
release

# ---- QEMU reads: so do we, and write nothing
theirs "$reader" -r
vd a.qed
expect 4
vd --repair --dry-run a.qed
expect 4
vd --repair a.qed
expect 64
vd io -c 'write 0 1' a.qed
expect 64
vd audit --db=audit.db a.qed
expect 4
release

# ---- we check: they read, and write nothing
ours "$reader" --throttle=iops=1 a.qed
they_can qemu-img check -f qed
they_can qemu-io -r -f qed -c 'read 0 512'
they_cannot qemu-io -f qed -c quit
they_cannot qemu-img check -r all -f qed
release

# ---- a look that shares keeps nobody out
ours "100" -U --throttle=iops=1 a.qed
they_can qemu-img check -f qed
they_can qemu-io -r -f qed -c 'read 0 512'
they_can qemu-io -f qed -c quit
release

# ---- nor does an audit
ours "100" audit --db=audit.db --full --throttle=iops=1 a.qed
they_can qemu-img check -f qed
they_can qemu-io -r -f qed -c 'read 0 512'
they_can qemu-io -f qed -c quit
release

# ---- we repair, or write: they do nothing, but for a look that shares
for words in "--repair --throttle=iops=1 a.qed" "io -c sleep\\ 600000 a.qed"; do
    eval "ours '$writer' $words"
    they_cannot qemu-io -f qed -c quit
    they_cannot qemu-io -r -f qed -c quit
    they_cannot qemu-img check -f qed
    they_cannot qemu-img check -r all -f qed
    they_can qemu-img check -U -f qed
    release
done
finish
