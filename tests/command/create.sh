#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# create: an empty, clean image of every geometry; never over something that is there.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# ---- every geometry of the format, also those that QEMU cannot open
for cs in 4k 8k 64k 512k 2M 64M; do
    for ts in 1 2 4 8 16; do
        vd create -f qed -o cluster_size=$cs,table_size=$ts g.qed 1M
        expect 0
        silent out
        vd g.qed
        expect 0
        vd io -q -c 'write -P 1 0 512' -c 'write -P 2 1023k 1k' -c 'zero 512k 4k' g.qed
        expect 0
        vd io -r -q -c 'read -P 1 0 512' -c 'read -P 0 512 512' -c 'read -P 2 1023k 1k' -c 'read -P 0 512k 4k' g.qed
        expect 0
        vd g.qed
        expect 0
        rm g.qed
    done
done

# ---- sizes: rounded up to a sector, up to what the tables map, and no further
for size in 0 1 511 512 513 1k 1M 1T; do
    vd create -f qed s.qed $size
    expect 0
    vd s.qed
    expect 0
    vd info --output=json s.qed
    matches out '"virtual-size": [0-9]+'
    bytes=$(sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p' "$told/out")
    [ $((bytes % 512)) -eq 0 ] || fail "$bytes bytes are no multiple of 512"
    rm s.qed
done
vd create -f qed s.qed 513
vd info s.qed
says out '1024 bytes'
rm s.qed
vd create -f qed s.qed 64T
expect 0
vd s.qed
expect 0
rm s.qed
for too_much in 65T $((64 * 1024 ** 4 + 512)) 8191P; do
    vd create -f qed s.qed "$too_much"
    [ "$status" -eq 16 ] || [ "$status" -eq 8 ] || fail "status $status for a size that the tables cannot map"
    matches err '^vdcheck: '
    [ ! -e s.qed ] || fail "a file is left behind"
done

# ---- options that are none
for o in cluster_size=5000 cluster_size=2k cluster_size=128M table_size=3 table_size=32 table_size=0 cluster_size= cluster_size \
    =4k cluster_size=64k,cluster_size=x; do
    vd create -f qed -o "$o" o.qed 1M
    expect 16
    matches err "cluster_size|table_size|=4k"
    [ ! -e o.qed ] || fail "-o $o: a file is left behind"
done

# ---- what is there stays
echo precious >there
cp there before
for target in there .; do
    vd create -f qed $target 1M
    expect 8
    says err "$target"
done
same there before
ln -s there link
vd create -f qed link 1M
expect 8
same there before
ln -s nowhere dangling
vd create -f qed dangling 1M
expect 8
[ ! -e nowhere ] || fail "created through a symbolic link"
mkfifo fifo
vd create -f qed fifo 1M
expect 8
vd create -f raw there 1M
expect 8
same there before
vd create -f qed nosuch/x 1M
expect 8
says err 'nosuch/x'
says err 'No such file or directory'
[ "$(id -u)" -eq 0 ] || { vd create -f qed /proc/x 1M; expect 8; }
vd create -f qed /dev/full 1M
expect 8

# ---- raw, and backing files
vd create -f raw r.raw 3M
expect 0
[ "$(size_of r.raw)" -eq $((3 * 1024 * 1024)) ] || fail "size of a raw disk"
"$VDCHECK" io -q -f raw -c 'write -P 7 0 3M' r.raw
vd create -f qed -b r.raw -F raw o.qed 4M
expect 0
vd info o.qed
matches out 'backing-filename +r.raw'
vd io -r -q -c 'read -P 7 0 3M' -c 'read -P 0 3M 1M' o.qed
expect 0
rm o.qed
vd create -f raw -b r.raw o.raw 4M
[ "$status" -ne 0 ] || fail "a raw disk has no backing file"
[ ! -e o.raw ] || fail "a file is left behind"
vd create -f qed -b "$(printf 'n%.0s' $(seq 1 5000))" o.qed 1M
[ "$status" -ne 0 ] || fail "a backing name that no reader takes"
[ ! -e o.qed ] || fail "a file is left behind"

# ---- a disk that is full
if [ "$(id -u)" -eq 0 ] && mkdir small && mount -t tmpfs -o size=64k none small 2>/dev/null; then
    clean_up_more() { umount -l "$scratch/work/small" 2>/dev/null; }
    cat /dev/zero >small/rest 2>/dev/null
    vd create -f qed small/x.qed 1G
    expect 8
    says err 'No space left'
    [ ! -e small/x.qed ] || fail "half an image is left behind"
else
    skip_part "no small file system without root"
fi
finish
