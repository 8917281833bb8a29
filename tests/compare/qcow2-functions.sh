# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the comparisons with QEMU over qcow2 images share. A raw file goes along with each image: what is written to
# the one is written to the other by qemu-io, and in the end both have the same bytes.

# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# What two programs make of one image, over hundreds of images, is asked of the build that people run; check-long asks
# the sanitized one, and leaves the search for leaked memory, which takes longer than these runs, to other tests.
[ "${VDCHECK_LONG:-0}" != 0 ] || VDCHECK=${VDCHECK_PLAIN:-$VDCHECK}
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0

for tool in qemu-img qemu-io; do
    has_command $tool || skip "no $tool (package qemu-utils)"
done

# number WORD: a size with k or M as bytes
number()
{
    case $1 in
    *k) echo $((${1%k} * 1024)) ;;
    *M) echo $((${1%M} * 1024 * 1024)) ;;
    *) echo "$1" ;;
    esac
}

# option NAME DEFAULT OPTIONS: the value of NAME among NAME=VALUE,...
option()
{
    local word

    for word in ${3//,/ }; do
        [ "${word%%=*}" = "$1" ] && number "${word#*=}" && return
    done
    number "$2"
}

# geometry OPTIONS: cluster size and guest bytes of one L2 table, to $c and $cover
geometry()
{
    c=$(option cluster_size 64k "$1")
    cover=$((c * c / 8))
    case $1 in *extended_l2=on*) cover=$((cover / 2)) ;; esac
}

qemu_clean()
{
    run timeout -k 5 120 qemu-img check -f qcow2 "$1"
    expect 0
}

# start_with FILE: the raw file that goes along, with the bytes that QEMU reads from FILE now
start_with()
{
    run timeout -k 5 120 qemu-img convert -f qcow2 -O raw "$1" along.raw
    expect 0
}

# change PROGRAM FILE OPERATION...: "w BYTE OFFSET LENGTH", "z OFFSET LENGTH", "c BYTE OFFSET LENGTH" (compressed),
# "d OFFSET LENGTH" (discarded, which for a raw file is zeroes), "s SIZE", by ours or qemu
change()
{
    local program=$1 file=$2 op words along=() image=()

    shift 2
    for op in "$@"; do
        read -ra words <<<"$op"
        case $program.${words[0]} in
        *.w)
            along+=(-c "write -P ${words[1]} ${words[2]} ${words[3]}")
            image+=("${along[@]: -2}")
            ;;
        qemu.c)
            along+=(-c "write -P ${words[1]} ${words[2]} ${words[3]}")
            image+=(-c "write -c -P ${words[1]} ${words[2]} ${words[3]}")
            ;;
        *.z | qemu.d)
            along+=(-c "write -z ${words[1]} ${words[2]}")
            case $program.${words[0]} in
            ours.z) image+=(-c "zero ${words[1]} ${words[2]}") ;;
            qemu.z) image+=(-c "write -z ${words[1]} ${words[2]}") ;;
            qemu.d) image+=(-c "discard ${words[1]} ${words[2]}") ;;
            esac
            ;;
        *.s)
            along+=(-c "truncate ${words[1]}")
            image+=("${along[@]: -2}")
            ;;
        *) fail "no operation of $program: $op" ;;
        esac
    done
    run timeout -k 5 120 qemu-io -f raw "${along[@]}" along.raw
    expect 0
    if [ "$program" = ours ]; then
        vd io -q "${image[@]}" "$file"
    else
        run timeout -k 5 120 qemu-io -f qcow2 "${image[@]}" "$file"
    fi
    expect 0
}

# same_guest FILE: both programs read what the raw file has, and QEMU's check finds nothing
same_guest()
{
    qemu_clean "$1"
    run timeout -k 5 120 qemu-img compare -f qcow2 -F raw "$1" along.raw
    expect 0
    rm -f ours.raw
    vd salvage "$1" ours.raw
    expect 0
    run timeout -k 5 120 qemu-img compare -f raw -F raw ours.raw along.raw
    expect 0
    [ "$(size_of ours.raw)" -eq "$(size_of along.raw)" ] || fail "the copies of $1 have different sizes"
}
