#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# io: reads and writes through a live open; a failure has a status and a story, and nothing is written by a reader.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

"$VDCHECK" create -f qed a.qed 1G

# ---- what was written is read
vd io -c 'write -P 0x11 0 1M' -c 'write -P 18 1000003 77' -c 'zero 64k 64k' -c 'write -P 3 512M 4k' -c flush \
    -c 'read -P 0x11 0 64k' a.qed
expect 0
says out '1 MiB at 0x0'
silent err
vd io -r -c 'read -P 17 0 64k' -c 'read -P 0 64k 64k' -c 'read -P 18 1000003 77' -c 'read -P 17 1000080 1000' \
    -c 'read -P 3 512M 4k' -c 'read -P 0 768M 1M' a.qed
expect 0
vd io -q -r -c 'read -P 17 0 64k' a.qed
expect 0
silent out
vd io -r -c 'read -P 18 0 64k' a.qed
expect 8
says err 'guest byte 0x0 is 0x11, expected 0x12'
vd a.qed
expect 0

# ---- commands run in their order, and the first that fails ends the row
cp a.qed before
vd io -c 'write -P 4 0 512' -c 'read -P 5 0 512' -c 'write -P 6 1M 512' a.qed
expect 8
vd io -r -q -c 'read -P 4 0 512' -c 'read -P 17 1023k 512' a.qed
expect 0
vd a.qed
expect 0

# ---- the end of the disk
for words in 'read 1G 1' 'read 1023M 2M' 'write 1G 1' 'write 1073741823 2' 'zero 1G 1' 'read 9223372036854775807 1' \
    'write 9223372036854775807 9223372036854775807' 'zero 0 2G'; do
    cp a.qed before
    vd io -c "$words" a.qed
    [ "$status" -eq 16 ] || [ "$status" -eq 8 ] || fail "status $status of: $words"
    says err "$words"
    same a.qed before
done
vd create -f raw r.raw 1M
vd io -f raw -c 'write 0 2M' r.raw
[ "$status" -ne 0 ] || fail "a write behind the end of a raw disk"
[ "$(size_of r.raw)" -eq $((1024 * 1024)) ] || fail "a write made the raw disk longer"
vd io -f raw -c 'write 1M 0' -c 'read 1M 0' r.raw
expect 0

# ---- words that do not fit
for words in 'read' 'read 0' 'read 0 x' 'read -P 256 0 1' 'read -P 0 1' 'read 0 1 2' 'write -1 1' 'truncate' 'truncate x' \
    'flush now' 'map it' 'sleep' 'rebase a b c' '' ' ' 'WRITE 0 1' 'read 0 1 1 1 1 1 1 1 1 1 1'; do
    cp a.qed before
    vd io -c "$words" a.qed
    expect 16
    matches err '^vdcheck: '
    same a.qed before
done

# ---- growing; a QED disk does not shrink
vd io -c 'truncate 2G' -c 'write -P 9 1G 4k' a.qed
expect 0
vd info a.qed
says out '2 GiB'
vd io -c 'truncate 1G' a.qed
expect 8
matches err 'truncate 1G: '
vd info a.qed
says out '2 GiB'
vd io -q -r -c 'read -P 9 1G 4k' a.qed
expect 0
vd a.qed
expect 0

# ---- a longer base does not show through where the disk grows
vd create -f qed -o cluster_size=64k base.qed 1M
vd io -q -c 'write -P 0x5a 0 1M' base.qed
vd create -f qed -o cluster_size=64k -b base.qed -F qed over.qed 100k
vd io -q -c 'truncate 777k' -c 'write -P 3 300k 1k' over.qed
expect 0
vd io -q -r -c 'read -P 0x5a 0 100k' -c 'read -P 0 100k 200k' -c 'read -P 3 300k 1k' -c 'read -P 0 301k 476k' over.qed
expect 0
vd io -q -c 'truncate 2M' over.qed
vd io -q -r -c 'read -P 0 777k 1271k' over.qed
expect 0
vd over.qed
expect 0
mv base.qed gone.qed
vd io -c 'truncate 3M' over.qed
expect 8
mv gone.qed base.qed

# ---- a reader writes nothing
cp a.qed before
touch -d '2001-02-03' a.qed
for words in 'write 0 1' 'zero 0 64k' 'truncate 4G' 'rebase x' flush map 'read 0 1' 'sleep 1'; do
    vd io -r -c "$words" a.qed
    case $words in
    flush | map | read* | sleep*) expect 0 ;;
    *) [ "$status" -ne 0 ] || fail "'$words' of a reader" ;;
    esac
    same a.qed before
    [ "$(stat -c %Y a.qed)" -eq "$(date -d 2001-02-03 +%s)" ] || fail "'$words' of a reader touched the file"
done

# ---- the map of the guest's disk
vd io -r -c map a.qed
expect 0
says out '0x0 0x100000 data'      # zeroes over what is allocated are written in place
says out '0x100000 0xff00000 zero'
matches out '^0x[0-9a-f]+ 0x[0-9a-f]+ (zero|data|backing)$'
if grep -qvE '^0x[0-9a-f]+ 0x[0-9a-f]+ (zero|data|backing)$' "$told/out"; then
    fail "a line that is none of a map"
fi
cover=0
while read -r at len _; do
    [ $((at)) -eq $cover ] || fail "a gap in the map at $at"
    cover=$((at + len))
done <"$told/out"
[ $cover -eq $((2 * 1024 ** 3)) ] || fail "the map ends at $cover"

# ---- backing files
"$VDCHECK" create -f qed -b a.qed -F qed o.qed 2G
vd io -q -r -c 'read -P 9 1G 4k' o.qed
expect 0
cp a.qed before
vd io -q -c 'write -P 1 1G 512' -c 'zero 512M 64k' o.qed
expect 0
same a.qed before
vd io -q -r -c 'read -P 1 1G 512' -c 'read -P 9 1073742336 3584' -c 'read -P 0 512M 64k' o.qed
expect 0
"$VDCHECK" create -f qed other.qed 2G
cp o.qed before
vd io -c 'rebase other.qed nope' o.qed
expect 16
same o.qed before
vd io -c 'rebase other.qed qed' o.qed
expect 0
vd info o.qed
matches out 'backing-filename +other.qed'
vd io -c rebase o.qed
expect 0
vd info o.qed
lacks out backing-filename
vd o.qed
expect 0

# ---- an image that was not closed cleanly is repaired before it is written, and read as it is
sample c.qed
dirty c.qed d.qed
cp d.qed before
vd io -r -c 'read -P 1 0 64k' d.qed
expect 0
same d.qed before
says err 'not closed cleanly'
vd io -c 'write -P 8 0 512' d.qed
expect 0
says err 'repaired first'
vd d.qed
expect 0
shared c.qed d.qed
poke d.qed 16 2
vd io -q -c 'write -P 8 0 512' d.qed
expect 0         # a shared cluster is cloned first, so that only one of the two is written to
vd io -q -r -c 'read -P 8 0 512' -c 'read -P 1 64k 512' d.qed
expect 0
dirty c.qed d.qed
poke d.qed $((L2 + 8)) 0x7fff0000
cp d.qed before
vd io -c 'write -P 8 0 512' d.qed
expect 8         # corruption would be left
says err 'd.qed'
vd d.qed
expect 4
says out need-check

# ---- no cluster goes where an entry that is wrong already points
for poked in "$((L2 + 8 * 3)) $(size_of c.qed)" "$((L2 + 8 * 3)) $(($(size_of c.qed) + 512))" \
    "$((L1 + 8)) $(size_of c.qed)" "$((L2 + 8 * 3)) 0x7fff0000"; do
    # shellcheck disable=SC2086 # an offset and a value
    cp c.qed d.qed && poke d.qed $poked
    cp d.qed before
    vd io -c 'write -P 8 3M 512' d.qed
    expect 8
    says err 'reaches behind the last whole cluster'
    same d.qed before
    vd io -q -c 'write -P 8 0 512' d.qed
    expect 0     # what has its place is written
done
cp c.qed d.qed
truncate -s -1000 d.qed
cp d.qed before
vd io -c 'write -P 8 3M 512' d.qed
expect 8
says err 'reaches behind the last whole cluster'
same d.qed before
cp c.qed d.qed   # nothing names what is cut off here
head -c 1000 /dev/zero >>d.qed
vd io -q -c 'write -P 8 3M 512' d.qed
expect 0
vd d.qed
expect 0

# ---- need-check stands while it is written, and is gone after a clean close
"$VDCHECK" create -f qed n.qed 1G
"$VDCHECK" io -q -c 'write -P 1 0 4k' -c 'sleep 60000' n.qed &
pid=$!
flag() { [ $(($(peek n.qed 16) & 2)) -eq 2 ]; }
holds "need-check is set before the first allocating write" wait_for 10 flag
linked() { [ "$(peek n.qed "$L1")" -ne 0 ]; }
holds "the write comes to its end" wait_for 10 linked
flag || fail "need-check is gone while the image is open"
kill -KILL $pid
wait $pid 2>/dev/null
cp n.qed killed.qed
vd killed.qed
expect 4
says out qed.need-check-set
vd --repair killed.qed
expect 1
vd io -q -r -c 'read -P 1 0 4k' killed.qed
expect 0
vd io -q -c 'write -P 2 4k 4k' n.qed
expect 0
holds_not "need-check is cleared on close" flag
vd n.qed
expect 0

# ---- faults of the disk are errors with a place
vd io --fault=read:errno=EIO,offset=64k,bytes=4k -r -c 'read 0 4k' n.qed
expect 8
says err 'Input/output error'
finish
