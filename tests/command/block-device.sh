#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An image on a block device: its size is the device's, what lies behind the image is no leak, nothing is cut off or
# extended, and a repair wants to be told where its undo file goes.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

has_command losetup || skip "no losetup (package mount)"
truncate -s 1M probe
device=$(losetup --find --show probe 2>losetup.err) || skip "no loop device: $(cat losetup.err)"
losetup -d "$device"

detach()
{
    exec 4<&-
}

clean_up_more() { detach; }

# attach FILE [OPTION]: the file is the device $device now, for as long as descriptor 4 is open: it goes away also where
# this script is killed
attach()
{
    detach
    wait_for 10 sh -c 'losetup --find --show "$@" >name' sh "${@:2}" "$1" || { fail "losetup $1"; exit 99; }
    device=$(cat name)
    exec 4<"$device"
    losetup -d "$device"
}

# untouched FILE: the device holds the bytes of the file
untouched()
{
    cmp -s "$device" "$1" || fail "the device and $1 differ"
}

sample clean.qed 512M
size=$(size_of clean.qed)

# ---- more room than the image needs, and not a whole number of clusters: free space, no leak
cp clean.qed roomy
truncate -s $((size + 3 * C + 512)) roomy
attach roomy
cp roomy before
for words in '' '-v' '--deep' '--output=json' '--output=qemu-json --exit-code=qemu'; do
    # shellcheck disable=SC2086 # words
    vd $words "$device"
    expect 0
    lacks out tail
done
vd --output=json "$device"
says out "\"file_size\": $((size + 3 * C + 512))"
says out "\"image_end_offset\": $size"
says out '"findings": []'
for words in info map 'io -r -c map'; do
    # shellcheck disable=SC2086
    vd $words "$device"
    expect 0
done
# what lies behind the image is free: nobody has lost it
vd map "$device"
matches out '0xc0000 +0xeffff +192 KiB +unused tail +0'
matches out 'H1111#2222##---$'
says out '- unused tail'
vd map --output=json "$device"
says out '"kind": "unused tail"'
lacks out '"leaked"'
if has_command sqlite3; then
    vd --map=tail.db "$device"
    run sqlite3 tail.db "SELECT first, count, kind FROM usage_run WHERE kind LIKE 'unused%'"
    [ "$(cat "$told/out")" = '12|3|unused tail' ] || fail "the stored map calls the tail something else"
fi
vd salvage "$device" copy.raw
expect 0
vd salvage clean.qed wanted.raw
same copy.raw wanted.raw
vd --repair=all "$device"        # nothing to do asks for no undo file
expect 0
untouched before

# ---- a repair wants an undo file, and says so before it writes
shared clean.qed roomy.shared
truncate -s $((size + 3 * C + 512)) roomy.shared
attach roomy.shared
cp roomy.shared before
vd "$device"
says out "next: vdcheck --repair --dry-run $device   shows the repair; with --undo-file=FILE and without --dry-run it makes it"
vd --repair --dry-run "$device"
expect 4
says out "next: vdcheck --repair --undo-file=FILE $device   makes it"
vd --repair=all --dry-run --undo-file=undo "$device"
says out "next: vdcheck --repair=all --undo-file=FILE $device   makes it"
for level in safe all; do
    vd --repair=$level "$device"
    expect 12
    says out --undo-file
done
untouched before
vd --repair --undo-file=undo "$device"
expect 4                         # the orphan is kept, for it may be what one of the two lost
says out 'done: 1 of 1 (the later entry gets a copy'
lacks out qed.tail
cmp -s "$device" before && fail "the repair wrote nothing"
[ "$(blockdev --getsize64 "$device")" -eq $((size + 3 * C + 512)) ] || fail "the device has another size"
vd io -r -q -c 'read -P 1 0 64k' -c 'read -P 1 64k 64k' "$device"
expect 0
vd --repair --undo-file=undo2 "$device"
expect 4
[ ! -e undo2 ] || fail "a repair with nothing to do left an undo file"
vd undo "$device"                # nothing lies beside it
expect 8
vd undo --undo-file=undo "$device"
expect 0
untouched before
vd undo --undo-file=undo "$device"
expect 8

# ---- so does the repair before a use
poke roomy.shared 16 2
attach roomy.shared
cp roomy.shared before
vd io -c 'read -P 1 0 64k' "$device"
expect 8
says err --undo-file
untouched before
vd io --undo-file=undo-io -c 'read -P 1 0 64k' "$device"
expect 0
vd undo --undo-file=undo-io "$device"
expect 0
untouched before

# ---- cut off, and finished by the same words: no stub stands beside a device
vd --repair --undo-file=undo-cut --fault=write:cut=1 "$device"
vd --repair --dry-run --undo-file=undo-cut "$device"
says out image.repair-unfinished
vd --repair --undo-file=undo-cut "$device"
expect 4
vd undo undo-cut
expect 0
untouched before
poke roomy.shared 16 0
attach roomy.shared
cp roomy.shared before

# ---- the undo file alone knows the device
vd --repair --undo-file=undo3 "$device"
expect 4
vd undo undo3
expect 0
untouched before

# ---- a flag is cleared, and a leak stays: a device gets no shorter
leaking clean.qed roomy.leak
poke roomy.leak 16 2
truncate -s +$((2 * C)) roomy.leak
attach roomy.leak
vd map "$device"                 # a leak in front of it is a leak still
matches out '0xa0000 +0xaffff +64 KiB +leaked +0'
matches out '0xc0000 +0xdffff +128 KiB +unused tail +0'
vd "$device"
expect 4
says out 'a device keeps its length'
vd --repair=all --undo-file=undo4 "$device"
expect 4
says out 'done: 1 of 1 (the flag is cleared'
says out 'a device keeps its length'
vd undo --undo-file=undo4 "$device"
expect 0
untouched roomy.leak

# ---- no room behind the image: what needs some is left, and the device is as it was
shared clean.qed full
attach full
cp full before
vd --repair=all --undo-file=undo5 "$device"
[ $((status & 4)) -eq 4 ] || fail "status $status"
lacks out 'done: 1 of 1 (the later entry'
vd io -c 'write -P 9 128M 64k' "$device"
[ "$status" -ne 0 ] || fail "written where there was no room"
cp clean.qed cut
truncate -s -4096 cut
attach cut
vd "$device"
expect 4
says out qed.l2-entry-partial-tail
vd --repair=all --undo-file=undo6 "$device"
[ $((status & 4)) -eq 4 ] || [ "$status" -eq 1 ] || fail "status $status"
[ "$(blockdev --getsize64 "$device")" -eq $((size - 4096)) ] || fail "the device has another size"

# ---- a device that cannot be written
attach roomy.shared --read-only
vd "$device"
expect 4
vd --repair --undo-file=undo7 "$device"
expect 12
says out 'cannot open for writing'
untouched roomy.shared
[ ! -e undo7 ] || fail "an undo file of no repair"

attach clean.qed --read-only
for words in '' --repair --repair=all '--repair --undo-file=undo7'; do
    # shellcheck disable=SC2086 # words
    vd $words "$device"
    expect 0                     # nothing has to be written
    says out 'clean: nothing wrong'
done
[ ! -e undo7 ] || fail "an undo file of no repair"

# ---- a program that writes to it keeps us out, as with a file
attach roomy
"$VDCHECK" io -q -c 'sleep 600000' "$device" &
pid=$!
if wait_for 10 grep -q "OFDLCK.*:$(stat -c %i "$device") " /proc/locks; then
    vd "$device"
    expect 64
    vd --repair --undo-file=undo8 "$device"
    expect 64
else
    skip_part "no OFD locks in /proc/locks"
fi
{
    kill -KILL $pid
    wait $pid
} 2>/dev/null
finish
