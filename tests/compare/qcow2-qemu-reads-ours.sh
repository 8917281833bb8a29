#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# qcow2 images that vdcheck makes and writes, read and checked by QEMU: every cluster size, every width of a count,
# both versions, subclusters, preallocation, backing files.
# shellcheck source=qcow2-functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/qcow2-functions.sh"

# same_as_qemu_makes OPTIONS SIZE [OPTIONS OF CREATE]: byte for byte
same_as_qemu_makes()
{
    rm -f ours.qcow2 theirs.qcow2
    vd create -f qcow2 -o "$1" "${@:3}" ours.qcow2 "$2"
    expect 0
    run qemu-img create -q -f qcow2 -o "$1" "${@:3}" theirs.qcow2 "$2"
    expect 0
    same ours.qcow2 theirs.qcow2
}

# write_all FILE: whole clusters, parts of them, across clusters and tables, zeroes of all kinds, and a disk that
# grows and shrinks
write_all()
{
    local file=$1 size=$((cover + 16 * c))

    change ours "$file" "w 1 0 $((2 * c))" "w 2 $((3 * c + 512)) 1024" "w 3 $((6 * c - 512)) 1024" \
        "w 4 $((cover - 512)) 1024" "z $((8 * c)) $((2 * c))" "w 5 $((8 * c + 512)) 512" "z $((c / 2)) $c" \
        "z $((10 * c + 512)) 1024" "w 6 $((c + 512)) 512"
    same_guest "$file"
    change ours "$file" "s $((size + 4 * c))" "w 7 $((size + 3 * c)) $c" "z $((cover + 2 * c)) $c" \
        "w 8 $((4 * c)) $((12 * c))" "z $((5 * c)) $((6 * c))"
    same_guest "$file"
    change ours "$file" "s $((cover + 512))" "s $((cover + 8 * c))" "w 9 $((cover + 4 * c)) $c"
    same_guest "$file"
    # and QEMU goes on writing where vdcheck left off
    change qemu "$file" "w 10 $((12 * c)) 512" "w 11 $((6 * c)) $c" "z 0 $c"
    same_guest "$file"
    change ours "$file" "w 12 0 512" "w 13 $((6 * c + 512)) 512"
    same_guest "$file"
}

# make_and_write OPTIONS [OPTIONS OF CREATE]
make_and_write()
{
    geometry "$1"
    rm -f a.qcow2
    vd create -f qcow2 -o "$1" "${@:2}" a.qcow2 $((cover + 16 * c))
    expect 0
    qemu_clean a.qcow2
    start_with a.qcow2
    write_all a.qcow2
}

truncate -s 8M base.raw

# ---- what is made
for options in compat=1.1 compat=0.10 cluster_size=512 cluster_size=512,compat=v2 cluster_size=4k cluster_size=8k \
    cluster_size=2M,refcount_bits=1 refcount_bits=64,cluster_size=1k compression_type=zstd \
    extended_l2=on,lazy_refcounts=on extended_l2=on,cluster_size=16k; do
    for size in 0 512 64M 10000k 3G; do
        # Where one block of counts does not do, tables lie elsewhere.
        case $options.$size in
        *cluster_size=512*.3G | *cluster_size=1k*.3G) continue ;;
        esac
        same_as_qemu_makes $options $size
    done
    for base in '-b base.raw -F raw' '-b a-long-name/../base.raw -F raw'; do
        mkdir -p a-long-name
        # shellcheck disable=SC2086 # words
        same_as_qemu_makes $options 64M $base
    done
done
same_as_qemu_makes preallocation=metadata 100M
same_as_qemu_makes preallocation=metadata,extended_l2=on 100M -b base.raw -F raw
for options in cluster_size=512,refcount_bits=64 cluster_size=512,refcount_bits=1 cluster_size=4k; do
    for how in metadata full falloc; do
        rm -f a.qcow2
        vd create -f qcow2 -o $options,preallocation=$how a.qcow2 5M
        expect 0
        qemu_clean a.qcow2
        says out 'No errors were found'
        run qemu-img map --output=json a.qcow2
        lacks out '"present": false'
    done
done
# a table of counts of several clusters, and an L1 table of many
vd create -f qcow2 -o cluster_size=512,refcount_bits=64 b.qcow2 120G
expect 0
qemu_clean b.qcow2
rm -f ./*.qcow2

# ---- what is written
for options in cluster_size=512 cluster_size=1k cluster_size=2k cluster_size=4k cluster_size=8k cluster_size=16k \
    cluster_size=64k cluster_size=256k cluster_size=2M \
    cluster_size=4k,refcount_bits={1,2,4,8,32,64} cluster_size=512,refcount_bits={1,64} \
    cluster_size={512,4k,64k},compat=0.10 cluster_size={16k,64k,2M},extended_l2=on \
    cluster_size=64k,lazy_refcounts=on cluster_size=4k,compression_type=zstd \
    cluster_size={512,4k},preallocation=metadata cluster_size=16k,extended_l2=on,preallocation=metadata; do
    make_and_write "$options"
done

# ---- over backing files: longer and shorter than the disk
for options in cluster_size=512 cluster_size=4k cluster_size=64k cluster_size=4k,compat=0.10 \
    cluster_size=16k,extended_l2=on cluster_size=64k,extended_l2=on,preallocation=metadata; do
    geometry $options
    for length in $((6 * c + 512)) $((cover + 18 * c)); do
        rm -f base.*
        qemu-img create -q -f raw base.raw $length
        run qemu-io -f raw -c "write -P 0xbb 0 $((6 * c + 512))" -c "write -P 0xbc $((length - 512)) 512" base.raw
        expect 0
        cp base.raw before.raw
        make_and_write $options -b base.raw -F raw
        same base.raw before.raw
        run qemu-img convert -f raw -O qcow2 -c base.raw base.qcow2
        expect 0
        make_and_write $options -b base.qcow2 -F qcow2
    done
done

# ---- another backing file, in every room that a header has
for options in cluster_size=512 cluster_size=512,compat=0.10 cluster_size=4k cluster_size=64k compat=0.10; do
    rm -f a.qcow2 base.*
    truncate -s 8M base.raw a-base-with-a-longer-name.raw
    vd create -f qcow2 -o $options a.qcow2 8M
    vd io -q -c 'write -P 1 1M 1000' a.qcow2
    expect 0
    start_with a.qcow2
    for words in 'base.raw raw' 'a-base-with-a-longer-name.raw raw' 'base.raw raw' 'base.raw' 'base.qcow2 qcow2' ''; do
        rm -f base.qcow2
        vd create -f qcow2 base.qcow2 8M
        vd io -q -c "rebase $words" a.qcow2
        expect 0
        same_guest a.qcow2
        run qemu-img info a.qcow2
        expect 0
        case $words in
        '') lacks out 'backing file' ;;
        *' '*)
            says out "backing file: ${words% *}"
            says out "backing file format: ${words#* }"
            ;;
        *)
            says out "backing file: $words"
            lacks out 'backing file format'
            ;;
        esac
        # nothing is left of names that were there
        vd a.qcow2
        lacks out qcow2.ext-data-after-end
    done
done
finish
