# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the comparisons with QEMU share, beside the functions of tests/command.

# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# What two programs make of one image, over hundreds of images, is asked of the build that people run; check-long asks
# the sanitized one, and leaves the search for leaked memory, which takes longer than these runs, to other tests.
[ "${VDCHECK_LONG:-0}" != 0 ] || VDCHECK=${VDCHECK_PLAIN:-$VDCHECK}
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0

for tool in qemu-img qemu-io; do
    has_command $tool || skip "no $tool (package qemu-utils)"
done
qemu-img --help | grep -q '^Supported formats:.* qed' || skip "this QEMU has no driver for QED"

# qemu_can CLUSTER_SIZE TABLE_SIZE: QEMU computes the largest size of an image in 64 bits, and its test of table offsets
# fails for a table of one cluster; what it cannot open it still creates.
qemu_can()
{
    local cluster=$1 table=$2 bits=0

    while [ $((1 << bits)) -lt "$cluster" ]; do bits=$((bits + 1)); done
    bits=$((3 * bits - 6))
    while [ "$table" -gt 1 ]; do table=$((table / 2)) bits=$((bits + 2)); done
    [ "$2" -gt 1 ] && [ $bits -lt 64 ]
}

# coverage CLUSTER_SIZE TABLE_SIZE: guest bytes that one L2 table maps
coverage()
{
    echo $(($2 * $1 / 8 * $1))
}

# qemu-io reads and writes; a failed command is a failed program.
qio()
{
    run timeout -k 5 120 qemu-io -f qed "$@"
}

# qemu_check FILE: the exit status of qemu-img check in $status
qemu_check()
{
    run timeout -k 5 120 qemu-img check -f qed "$1"
}

# qemu_clean FILE
qemu_clean()
{
    qemu_check "$1"
    expect 0
}

# vdcheck_clean FILE
vdcheck_clean()
{
    vd "$1"
    expect 0
    says out "$1: clean"
}

# same_guest FORMAT A FORMAT B: what guests see is the same, by QEMU's judgement
same_guest()
{
    run timeout -k 5 120 qemu-img compare -f "$1" -F "$3" "$2" "$4"
    expect 0
}

# guest_map: the data ranges of the guest's disk, adjacent ones joined, from lines "start length" in any base
guest_map()
{
    local start length end=-1 first=0

    while read -r start length; do
        if [ $((start)) -ne $end ]; then
            [ $end -lt 0 ] || printf '%d %d\n' $first $end
            first=$((start))
        fi
        end=$((start + length))
    done
    [ $end -lt 0 ] || printf '%d %d\n' $first $end
}
