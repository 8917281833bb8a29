#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images of QEMU that nobody damaged, with every option that it has and after the work that images see: nothing of them
# is a finding, but for the warnings that name what is legal and rare.
# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

for tool in qemu-img qemu-io; do
    has_command $tool || skip "no $tool (package qemu-utils)"
done

# What an image of QEMU may be told: options that are on, and room that is kept for later.
RARE='lazy-refcounts|tail-free|extl2-offset-unused|l2-entry-partial-tail|datafile-raw-hole'

quiet()
{
    "$@" >"$told/out" 2>"$told/err" </dev/null || fail "did not work: $*"
}

# work IMAGE WORD...: what is done to an image; SIZE of the disk is in $size
work()
{
    local image=$1 word n=0 snapshots=0

    shift
    for word in "$@"; do
        n=$((n + 1))
        case $word in
        write) quiet qemu-io -f qcow2 -c "write -P $n $((size / 3 / 512 * 512)) $((size / 4 / 512 * 512))" "$image" ;;
        whole) quiet qemu-io -f qcow2 -c "write -P 7 0 $size" "$image" ;;
        sector) quiet qemu-io -f qcow2 -c "write -P $n $((size / 2 / 512 * 512)) 512" "$image" ;;
        packed) quiet qemu-io -f qcow2 -c "write -c -P 9 0 $cluster" "$image" ;;
        zero) quiet qemu-io -f qcow2 -c "write -z 0 $((size / 2 / 512 * 512))" "$image" ;;
        unmap) quiet qemu-io -f qcow2 -d unmap -c "write -zu 0 $((size / 2 / 512 * 512))" "$image" ;;
        discard) quiet qemu-io -f qcow2 -d unmap -c "discard $((size / 3 / 512 * 512)) $((size / 3 / 512 * 512))" "$image" ;;
        snapshot)
            snapshots=$((snapshots + 1))
            quiet qemu-img snapshot -c "s$snapshots" "$image"
            ;;
        apply) quiet qemu-img snapshot -a s1 "$image" ;;
        drop) quiet qemu-img snapshot -d s1 "$image" ;;
        bitmap) quiet qemu-img bitmap --add -g 64k "$image" "b$n" ;;
        grow) size=$((size * 2 + 512)) && quiet qemu-img resize -q -f qcow2 "$image" $size ;;
        shrink) size=$((size / 2 / 512 * 512)) && quiet qemu-img resize -q -f qcow2 --shrink "$image" $size ;;
        *) fail "no such work: $word" ;;
        esac
    done
}

judge()
{
    quiet qemu-img check "$1"
    vd --deep --output=json "$1"
    expect 0
    sed -n 's/.*"id": "qcow2\.\([^"]*\)".*/\1/p' "$told/out" | grep -vxE "$RARE" && fail "told of a sound image ($what)"
    vd --repair "$1"
    expect 0
}

images=0
while read -r size options words; do
    case $size in '' | '#'*) continue ;; esac
    images=$((images + 1))
    what="$size $options $words"
    cluster=$(sed -n 's/.*cluster_size=\([0-9]*\).*/\1/p' <<<"$options")
    cluster=${cluster:-65536}
    rm -f a.qcow2 a.data base.raw
    case $options in
    *backing*)
        head -c $((size / 2 + 300)) /dev/urandom >base.raw
        options=${options#backing=,}
        ran=$what quiet qemu-img create -q -f qcow2 -o "$options" -b base.raw -F raw a.qcow2 "$size"
        ;;
    *) ran=$what quiet qemu-img create -q -f qcow2 -o "$options" a.qcow2 "$size" ;;
    esac
    # shellcheck disable=SC2086 # words
    work a.qcow2 $words
    judge a.qcow2
    # with a hole wherever there are zeroes
    cp --sparse=always a.qcow2 sparse.qcow2
    judge sparse.qcow2
done <<'IMAGES'
# disk  options                                                      what is done
0        compat=0.10
0        compat=0.10                                                  snapshot snapshot
0        compat=1.1                                                   snapshot bitmap
0        compat=1.1,extended_l2=on                                    snapshot
512      compat=0.10                                                  write sector grow
512      compat=1.1,cluster_size=2097152                              sector snapshot
512      compat=1.1,preallocation=metadata                            sector
1048576  compat=0.10,cluster_size=512                                 write snapshot write
1048576  compat=0.10,cluster_size=4096                                whole snapshot discard apply drop
1048576  compat=1.1,cluster_size=512                                  whole snapshot write snapshot drop
1048576  compat=1.1,cluster_size=512,preallocation=metadata           write zero
1048576  compat=1.1,cluster_size=512,preallocation=falloc             discard write
1048576  compat=1.1,cluster_size=512,refcount_bits=64                 whole discard grow write
1048576  compat=1.1,cluster_size=512,refcount_bits=1                  whole discard write
1048576  compat=1.1,cluster_size=1024,refcount_bits=2                 write snapshot write
1048576  compat=1.1,cluster_size=1024,refcount_bits=4,lazy_refcounts=on write snapshot write zero
1048576  compat=1.1,cluster_size=2048,refcount_bits=8                 write unmap snapshot grow
1048576  compat=1.1,cluster_size=4096,refcount_bits=32                packed snapshot write drop
1048576  compat=1.1,cluster_size=8192,compression_type=zstd           packed write snapshot
1048576  compat=1.1,cluster_size=16384,extended_l2=on                 sector snapshot write zero
1048576  compat=1.1,cluster_size=16384,extended_l2=on,preallocation=metadata sector discard
5243392  compat=0.10,preallocation=metadata                           write
5243392  compat=0.10,preallocation=full                               write zero discard
5243392  compat=0.10                                                  packed write snapshot write apply
5243392  compat=1.1                                                   write snapshot write snapshot write drop
5243392  compat=1.1                                                   bitmap write bitmap discard
5243392  compat=1.1                                                   snapshot grow snapshot write
5243392  compat=1.1                                                   write shrink
5243392  compat=1.1                                                   write grow shrink write
5243392  compat=1.1,preallocation=metadata                            write unmap snapshot write
5243392  compat=1.1,preallocation=falloc                              sector discard
5243392  compat=1.1,preallocation=full                                sector zero
5243392  compat=1.1,lazy_refcounts=on                                 write snapshot drop
5243392  compat=1.1,lazy_refcounts=on,refcount_bits=64                bitmap write zero
5243392  compat=1.1,compression_type=zstd                             packed snapshot write
5243392  compat=1.1,compression_type=zstd,extended_l2=on              sector unmap
5243392  compat=1.1,extended_l2=on                                    sector write snapshot discard apply
5243392  compat=1.1,extended_l2=on,lazy_refcounts=on                  bitmap sector snapshot write
5243392  compat=1.1,extended_l2=on,refcount_bits=1                    sector zero write
5243392  compat=1.1,extended_l2=on,preallocation=full                 sector unmap
5243392  compat=1.1,cluster_size=32768,refcount_bits=2                whole snapshot discard write
5243392  compat=1.1,cluster_size=131072,refcount_bits=64              write snapshot write
5243392  compat=1.1,cluster_size=1048576                              write bitmap snapshot
5243392  compat=1.1,cluster_size=2097152,extended_l2=on               sector write snapshot zero
5243392  compat=1.1,cluster_size=2097152,preallocation=metadata       write
5243392  compat=1.1,cluster_size=2097152,refcount_bits=1              write discard
5243392  backing=,compat=0.10                                         write zero snapshot
5243392  backing=,compat=1.1                                          write zero discard snapshot write
5243392  backing=,compat=1.1,cluster_size=512                         sector write snapshot
5243392  backing=,compat=1.1,extended_l2=on                           sector zero discard snapshot
5243392  backing=,compat=1.1,lazy_refcounts=on,cluster_size=4096      packed unmap write
5243392  compat=1.1,data_file=a.data                                  write zero discard
5243392  compat=1.1,data_file=a.data,preallocation=metadata           write
5243392  compat=1.1,data_file=a.data,data_file_raw=on                 write sector
512      compat=1.1,data_file=a.data,data_file_raw=on                 sector
5243392  compat=1.1,data_file=a.data,data_file_raw=on,cluster_size=2097152 write
5243392  compat=1.1,data_file=a.data,extended_l2=on                   sector zero
67108864 compat=1.1,cluster_size=4096,refcount_bits=16                write snapshot whole drop
67108864 compat=1.1                                                   whole snapshot discard write bitmap drop
67108864 compat=0.10,cluster_size=65536                               whole snapshot discard
IMAGES
[ "$images" -ge 60 ] || fail "$images images"
finish
