#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Fields of the header without which nothing can be read, destroyed in images of qemu-img: the cluster size, the width of
# counts, the place of the L1 table. The value that explains the file is found again, and QEMU reads what was there before.
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/qcow2-functions.sh"

# p OFFSET BYTES VALUE: a big-endian number into b.qcow2
p() { printf "$(printf '%0*x' $((2 * $2)) "$3" | sed 's/../\\x&/g')" | dd of=b.qcow2 bs=1 seek="$1" conv=notrunc status=none; }

word() { echo "0x$(xxd -s "$2" -l 8 -p "$1")"; }

make() # OPTIONS SNAPSHOTS
{
    rm -f a.qcow2
    run qemu-img create -f qcow2 -o "$1" a.qcow2 64M
    run qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 20M 3M' -c 'write -P 5 60M 100k' a.qcow2
    [ "$2" = 0 ] && return
    run qemu-img snapshot -c one a.qcow2
    expect 0
    run qemu-io -f qcow2 -c 'write -P 3 512k 1M' -c 'write -P 9 40M 64k' a.qcow2
}

# Repairs b.qcow2 at the level. Most come back byte for byte; a value that was legal is not written back by a rule.
comes_back() # LEVEL
{
    vd --repair="$1" b.qcow2
    expect 1
    qemu_clean b.qcow2
    run qemu-img compare -f qcow2 -F raw b.qcow2 wanted.raw
    expect 0
    vd undo b.qcow2
    expect 0
    cmp -s b.qcow2 damaged.qcow2 || fail "undo does not give the damaged image back"
    rm -f b.qcow2*
}

has_command xxd || skip 'no xxd'
for options in cluster_size=512 cluster_size=4k,refcount_bits=8 cluster_size=64k,extended_l2=on cluster_size=4k,compat=0.10; do
    for snapshots in 0 1; do
        make $options $snapshots
        run qemu-img convert -f qcow2 -O raw a.qcow2 wanted.raw
        expect 0
        l1=$(word a.qcow2 40)
        l2=$(($(word a.qcow2 "$l1") & 0xfffffffffffe00))
        for damage in 'safe 20 4 8' 'safe 20 4 31' 'safe 96 4 7' 'safe 40 8 1' 'safe 40 8 0x7fffffff0000' 'all 40 8 0' \
            "all 40 8 $(word a.qcow2 48)" "all 40 8 $l2"; do
            case $options$damage in *0.10*'96 4 7') continue ;; esac
            cp a.qcow2 b.qcow2
            # shellcheck disable=SC2086
            p ${damage#* }
            cp b.qcow2 damaged.qcow2
            comes_back "${damage%% *}"
        done
    done
done

# ---- all of the header is gone, overwritten with zeroes or with a boot sector: what it said of the disk's end and the
# names are lost, the data is not
bytes=zero
for options in cluster_size=512 cluster_size=4k,refcount_bits=64 cluster_size=64k,refcount_bits=2 cluster_size=16k,extended_l2=on; do
    rm -f a.qcow2*
    run qemu-img create -f qcow2 -o $options a.qcow2 64M
    run qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 20M 3M' -c 'write -P 5 60M 4M' a.qcow2
    expect 0
    cp a.qcow2 b.qcow2
    if [ $bytes = zero ]; then head -c 512 /dev/zero; else yes 'boot sector' | head -c 512; fi |
        dd of=b.qcow2 conv=notrunc status=none
    cp b.qcow2 damaged.qcow2
    rm -f ours.raw*
    vd salvage -f qcow2 b.qcow2 ours.raw
    expect 4            # what was chosen is a guess
    run qemu-img compare -f raw -F qcow2 ours.raw a.qcow2
    expect 0
    cmp -s b.qcow2 damaged.qcow2 || fail "salvage changed the image"
    vd --repair -f qcow2 b.qcow2
    expect 4
    cmp -s b.qcow2 damaged.qcow2 || fail "a header that is a guess is written at level safe"
    vd --repair=all -f qcow2 b.qcow2
    expect 1
    qemu_clean b.qcow2
    run qemu-img compare -f qcow2 -F qcow2 b.qcow2 a.qcow2
    expect 0
    vd undo b.qcow2
    cmp -s b.qcow2 damaged.qcow2 || fail "undo does not give the damaged image back"
    rm -f b.qcow2*
    if [ $bytes = zero ]; then bytes=text; else bytes=zero; fi
done

finish
