#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# qcow2 images that QEMU makes and writes, read by vdcheck and then written to: every cluster size, every width of a
# count, both versions, compressed clusters of both kinds, subclusters, snapshots, bitmaps, backing chains.
# shellcheck source=qcow2-functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/qcow2-functions.sh"

# make OPTIONS [OPTIONS OF CREATE]: an image of QEMU with clusters of all kinds
make()
{
    geometry "$1"
    rm -f a.qcow2
    run qemu-img create -q -f qcow2 -o "$1" "${@:2}" a.qcow2 $((cover + 16 * c))
    expect 0
    start_with a.qcow2
    case $1 in
    *preallocation*) ;;
    *)
        change qemu a.qcow2 "c 1 0 $c" "c 2 $c $c" "c 3 $((3 * c)) $c" "c 4 $((cover - c)) $c" \
            "c 5 $((14 * c)) $c" "c 6 $((15 * c)) $c"
        ;;
    esac
    change qemu a.qcow2 "w 7 $((4 * c + 512)) 1024" "w 8 $((6 * c)) $((2 * c))" "z $((7 * c)) $((2 * c))" \
        "w 9 $((cover + 512)) 512" "w 10 $((10 * c)) $((3 * c))"
    # What is discarded shows the backing file again in version 2.
    case "$*" in
    *compat=0.10*-b*) ;;
    *) change qemu a.qcow2 "d $((10 * c)) $c" ;;
    esac
}

# write_over: ours over each kind, in whole and in part
write_over()
{
    change ours a.qcow2 "w 20 512 512" "w 21 $c $c" "z $((3 * c)) $c" "w 22 $((4 * c)) 512" "w 23 $((6 * c + 512)) 512" \
        "w 24 $((7 * c)) 512" "w 25 $((8 * c)) $c" "w 26 $((10 * c + 512)) 512" "z $((11 * c)) $c" \
        "z $((12 * c + 512)) 512" "w 27 $((14 * c + 512)) $c" "w 28 $((cover - 512)) 1024" "w 29 $((2 * c)) 512"
}

# ---- reading, and writing over
for options in cluster_size={512,1k,2k,4k,8k,16k,32k,64k,128k,256k,512k,1M,2M} \
    cluster_size=4k,refcount_bits={1,2,4,8,32,64} cluster_size=512,refcount_bits={8,64} \
    cluster_size={512,4k,64k},compat=0.10 cluster_size={16k,64k,1M},extended_l2=on \
    cluster_size={512,4k,64k,2M},compression_type=zstd cluster_size=64k,extended_l2=on,compression_type=zstd \
    cluster_size={4k,64k},lazy_refcounts=on \
    cluster_size={512,64k},preallocation=metadata cluster_size=64k,extended_l2=on,preallocation=metadata; do
    make "$options"
    same_guest a.qcow2
    write_over
    same_guest a.qcow2
    change ours a.qcow2 "s $((cover + 40 * c))" "w 30 $((cover + 39 * c)) $c"
    same_guest a.qcow2
    change ours a.qcow2 "s $((13 * c + 512))" "s $((15 * c))"
    same_guest a.qcow2
    change qemu a.qcow2 "w 31 $((13 * c)) $c" "z 0 $c"
    same_guest a.qcow2
done

# ---- backing chains: compressed, shorter, three deep
for options in cluster_size=512 cluster_size=64k cluster_size=4k,compat=0.10 cluster_size=64k,extended_l2=on; do
    rm -f base.* mid.*
    make cluster_size=4k
    mv a.qcow2 base.qcow2
    run qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 mid.qcow2 $((12 * 4096 + 512))
    expect 0
    run qemu-io -f qcow2 -c "write -P 0xbb 4096 9000" mid.qcow2
    expect 0
    make $options -F qcow2 -b mid.qcow2
    same_guest a.qcow2
    write_over
    same_guest a.qcow2
done

# ---- snapshots keep what they have
for options in cluster_size=512 cluster_size=4k,refcount_bits=8 cluster_size=64k cluster_size=4k,compat=0.10 \
    cluster_size=64k,extended_l2=on cluster_size=64k,compression_type=zstd,lazy_refcounts=on; do
    make "$options"
    run qemu-img snapshot -c one a.qcow2
    expect 0
    cp along.raw one.raw
    change qemu a.qcow2 "w 15 $((5 * c)) $((2 * c))"
    run qemu-img snapshot -c two a.qcow2
    expect 0
    cp along.raw two.raw
    write_over
    same_guest a.qcow2
    change ours a.qcow2 "w 16 $((5 * c + 512)) $c" "z 0 $c"
    same_guest a.qcow2
    for name in one two; do
        run qemu-img convert -f qcow2 -l $name -O raw a.qcow2 then.raw
        expect 0
        run qemu-img compare -f raw -F raw then.raw $name.raw
        expect 0
    done
    vd io -c "truncate $((13 * c))" a.qcow2
    expect 8
    says err 'snapshots'
    same_guest a.qcow2
    rm -f got.raw
    vd salvage --snapshot=one a.qcow2 got.raw
    expect 0
    run qemu-img compare -f raw -F raw got.raw one.raw
    expect 0
    vd salvage --snapshot=three a.qcow2 none.raw
    expect 8
    says err 'three'
    run qemu-img snapshot -d one a.qcow2
    expect 0
    same_guest a.qcow2
    run qemu-img snapshot -a two a.qcow2
    expect 0
    cp two.raw along.raw
    same_guest a.qcow2
    change ours a.qcow2 "w 17 $((6 * c + 512)) 512"
    same_guest a.qcow2
done
rm -f ./*.raw ./*.qcow2

# ---- what is not written to, and why
geometry cluster_size=64k
run qemu-img create -q -f qcow2 -o data_file=d.raw d.qcow2 1M
cp d.qcow2 d.before
rm d.raw
vd io -c 'write 0 512' d.qcow2
expect 8
says err 'data file'
same d.qcow2 d.before
qemu_luks e.qcow2 1M
cp e.qcow2 e.before
vd io -c 'write 0 512' e.qcow2
expect 8
says err 'encrypted'
same e.qcow2 e.before

# ---- bitmaps do not follow our writes, so they are out of force
run qemu-img create -q -f qcow2 b.qcow2 8M
run qemu-img bitmap --add b.qcow2 bm
expect 0
run qemu-img info b.qcow2
says out 'bitmaps'
vd io -q -c 'write 0 512' b.qcow2
expect 0
vd info b.qcow2
matches out 'autoclear-features +0x0$'
run qemu-io -f qcow2 -c 'read -P 0xcd 0 512' b.qcow2
expect 0
finish
