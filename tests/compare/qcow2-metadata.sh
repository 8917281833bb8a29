#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Snapshots, bitmaps, header extensions and LUKS headers that QEMU made and that were damaged here: what vdcheck finds,
# and beside it what QEMU says. Images of QEMU that nobody damaged must have none of these findings.
# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

for tool in qemu-img qemu-io; do
    has_command $tool || skip "no $tool (package qemu-utils)"
done

# p BYTES OFFSET VALUE: a big-endian number in the file at hand, a.qcow2
p()
{
    local hex

    printf -v hex "%0$((2 * $1))x" $(($3))
    # shellcheck disable=SC2059,SC2001 # the number is the format
    printf "$(sed 's/../\\x&/g' <<<"$hex")" | dd of=a.qcow2 bs=1 seek=$(($2)) conv=notrunc status=none
}

# n BYTES OFFSET: the big-endian number there
n()
{
    echo $((0x$(od -An -v -tx1 -j $(($2)) -N "$1" a.qcow2 | tr -d ' \n')))
}

# move FROM TO BYTES: within the file
move()
{
    dd if=a.qcow2 of=moved bs=1 skip=$(($1)) count=$(($3)) status=none
    dd if=moved of=a.qcow2 bs=1 seek=$(($2)) conv=notrunc status=none
}

C=0x8000000000000000
SO=0x80000   # the snapshot table, and the L1 table of the first snapshot, of image s
SL1=0x70000
L2=0x40000

make()
{
    run "$@"
    [ "$status" -eq 0 ] || { fail "cannot make an image"; finish; }
}

q()
{
    make qemu-img "$@"
}

io()
{
    make qemu-io -f qcow2 -c "$1" "$2"
}

# The images: plain, with a snapshot (or two), with a bitmap (or two), encrypted, with a data file, with a backing file.
make_images()
{
    q create -q -f qcow2 plain 64M
    io 'write -P 1 0 64k' plain
    io 'write -P 2 64k 64k' plain
    cp plain s
    q snapshot -c s1 s
    io 'write -P 9 0 64k' s
    cp s s2
    q snapshot -c s2 s2
    q create -q -f qcow2 large 2G
    io 'write -P 1 0 64k' large
    q snapshot -c s1 large
    cp plain b
    q bitmap --add -g 64k b b0
    io 'write -P 3 32M 64k' b
    cp b b2
    q bitmap --add -g 64k b2 b1
    qemu_luks luks 64M
    make qemu-io --object secret,id=s,data=x -c 'write -P 1 0 64k' \
        --image-opts driver=qcow2,file.driver=file,file.filename=luks,encrypt.key-secret=s
    q create -q -f qcow2 -o data_file=d.raw data 64M
    q create -q -f qcow2 -o extended_l2=on extl2 64M
    q create -q -f raw base 64M
    q create -q -f qcow2 -b base -F raw backing 64M
    q create -q -f qcow2 -o cluster_size=512 small 1M
    for file in plain s s2 large b b2 luks data extl2 backing small; do
        cp $file a.qcow2
        vd --output=json a.qcow2
        families >found
        [ ! -s found ] || fail "QEMU's own image $file has: $(tr '\n' ' ' <found)"
    done
}

# families: the ids of the findings of the last run that are of this test's kinds
families()
{
    sed -n 's/^ *"id": "qcow2\.\(\(snap\|bitmap\|ext\|crypt\|luks\|data-file\|header\|backing\|feature\)-.*\)",$/\1/p' "$told/out" | sort -u
}

# damage IMAGE: a.qcow2 is a copy of it
damage()
{
    what=$1
    cp "$1" a.qcow2
    options=driver=qcow2,file.driver=file,file.filename=a.qcow2
    [ "$1" != luks ] || options+=,encrypt.key-secret=s
}

# finds QEMU'S STATUS ID...: what is found in a.qcow2, and nothing else of these kinds
finds()
{
    local theirs=$1

    shift
    vd --output=json a.qcow2
    families >found
    printf '%s\n' "$@" | sort -u >wanted
    cmp -s found wanted || fail "$what: found $(tr '\n' ' ' <found), expected $*"
    run timeout -k 5 60 qemu-img check --object secret,id=s,data=x --image-opts "$options"
    [ "$status" -eq "$theirs" ] || fail "$what ($*): QEMU ends with $status, expected $theirs"
}

# heals LEVEL [ID...]: these are left after the repair of that level
heals()
{
    local level=$1

    shift
    cp a.qcow2 r.qcow2
    rm -f r.qcow2.vdcheck-undo*
    vd --repair="$level" --output=json r.qcow2
    lacks out '"refused"'
    holds "the repair of $what changed nothing" test -e r.qcow2.vdcheck-undo
    vd --output=json r.qcow2
    families >found
    { [ $# -eq 0 ] || printf '%s\n' "$@" | sort -u; } >wanted
    cmp -s found wanted || fail "$what after repair=$level: found $(tr '\n' ' ' <found), expected $*"
}

# repairs LEVEL [ID...]: the same, and a second repair does nothing, and the first is undone
repairs()
{
    heals "$@"
    cp r.qcow2 first.qcow2
    vd --repair="$1" r.qcow2
    same first.qcow2 r.qcow2
    vd undo r.qcow2
    expect 0
    same a.qcow2 r.qcow2
}

# leaves LEVEL: after a repair of that level the same is found
leaves()
{
    cp a.qcow2 r.qcow2
    rm -f r.qcow2.vdcheck-undo*
    vd --repair="$1" r.qcow2
    vd --output=json r.qcow2
    families >left
    cmp -s wanted left || fail "$what after repair=$1: found $(tr '\n' ' ' <left), expected as before: $(tr '\n' ' ' <wanted)"
}

make_images

# ---- the snapshot table
damage s; p 8 64 $((SO + 512)); finds 1 snap-table-misaligned; repairs safe
damage s; p 8 64 0x7fff0000; finds 2 snap-table-out-of-file; repairs safe
damage s; p 8 64 0; finds 2 snap-table-zero-offset; repairs safe
damage s; p 4 60 70000; finds 1 snap-count-too-large; repairs safe
damage s; p 4 60 2; finds 2 snap-count-high; repairs safe
damage s; p 4 60 0; finds 3 snap-count-low; repairs safe
damage s2; p 4 60 1; finds 3 snap-count-low; repairs safe
damage s; p 8 $((L2 + 24)) $((C | SO)); finds 2 snap-table-overlap; repairs safe

# ---- its entries
damage s
move $((SO + 64)) $((SO + 48)) 16
p 4 $((SO + 36)) 8
finds 2 snap-entry-incomplete; repairs safe
damage s; p 4 $((SO + 36)) 0x10000; finds 1 snap-extra-too-large; repairs safe
damage s; p 8 $SO $((SL1 + 0x200)); finds 2 snap-l1-misaligned; repairs safe
damage s; p 8 $SO 0x7fff0000; finds 2 snap-l1-out-of-file; repairs safe
damage s; p 8 $SO 0; finds 2 snap-l1-zero-offset; repairs safe
damage s; p 4 $((SO + 8)) 0x500000; finds 2 snap-l1-too-large; repairs safe
damage s; p 4 $((SO + 8)) 0; finds 3 snap-l1-zero-size; repairs safe
damage s; p 8 $SO "$(($(n 8 0x30000) & ~C))"; finds 2 snap-l1-overlap; repairs safe
damage s; p 8 $SO 0x30000; finds 2 snap-l1-overlap; repairs safe
damage s; p 8 $SO $L2; finds 2 snap-l1-overlap; leaves safe; repairs all
damage s; p 8 $((SO + 48)) $((1 << 40)); finds 0 snap-disk-size snap-l1-short; leaves all
damage s; p 8 $((SO + 48)) $(((64 << 20) - 100)); finds 0 snap-disk-size; leaves all
damage s; p 8 $((SO + 40)) $((1 << 40)); finds 0 snap-vmstate-range; leaves all
damage s; p 2 $((SO + 12)) 0; p 2 $((SO + 14)) 3; finds 0 snap-id-empty
damage s; p 1 $((SO + 65)) 10; finds 0 snap-name-invalid
damage large; p 4 $(($(n 8 64) + 8)) 1; finds 0 snap-l1-short
damage s2; t=$(n 8 64); p 8 $((t + 72)) "$(n 8 $t)"; finds 2 snap-l1-shared; heals safe
damage s2; t=$(n 8 64); p 1 $((t + 72 + 64)) 0x31; finds 0 snap-id-duplicate; leaves safe; repairs all

# ---- bitmaps
E=0x200
damage b; DO=$(n 8 $((E + 16))) BT=$(n 8 "$DO")
for change in "4 $E 0" "4 $((E + 4)) 7" "4 $((E - 4)) 16"; do
    # shellcheck disable=SC2086 # three words
    damage b; p $change; finds 1 bitmap-ext-invalid; leaves safe; repairs all
done
damage plain; p 8 88 1; finds 0 bitmap-ext-missing; leaves safe; repairs all
damage b; p 8 88 0; finds 3 bitmap-void; leaves safe; repairs all
damage b
move 0x70 72 0x200
p 4 4 2
finds 3 bitmap-v2; repairs all
damage b; p 8 $((E + 16)) $((DO + 512)); finds 1 bitmap-dir-misaligned; repairs all
damage b; p 8 $((E + 8)) $((1 << 28)); finds 1 bitmap-dir-too-large; repairs all
damage b; p 8 $((E + 16)) 0x7fff0000; finds 1 bitmap-dir-out-of-file; repairs all
damage b; p 8 $((E + 8)) $(($(n 8 $((E + 8))) + 8)); finds 1 bitmap-dir-size; repairs safe
damage b2; p 8 $((E + 8)) $(($(n 8 $((E + 8))) - 8)); finds 1 bitmap-dir-size; repairs safe
damage b; p 4 $E 2; finds 1 bitmap-dir-count; repairs safe
damage b2; p 4 $E 1; finds 1 bitmap-dir-count; repairs safe
damage b; p 8 $((L2 + 24)) $((C | DO)); finds 2 bitmap-dir-overlap; leaves safe; repairs all
damage b; p 4 $((DO + 12)) 8; finds 1 bitmap-entry-flags; leaves safe; repairs all
damage b; p 4 $((DO + 12)) 4; finds 1 bitmap-entry-flags; leaves all
damage b; p 1 $((DO + 16)) 2; finds 1 bitmap-entry-type; repairs all
damage b; p 1 $((DO + 17)) 8; finds 1 bitmap-entry-granularity; repairs all
damage b; p 2 $((DO + 18)) 1024; p 8 $((E + 8)) 1048; finds 1 bitmap-entry-name; repairs all
damage b2; DO2=$(n 8 $((E + 16))); p 1 $((DO2 + 32 + 25)) 0x30; finds 1 bitmap-name-duplicate; leaves safe; repairs all
damage b; p 4 $((DO + 20)) 8; p 8 $((E + 8)) $(($(n 8 $((E + 8))) + 8)); finds 1 bitmap-extra-data; leaves all
damage b; p 8 "$DO" $((BT + 512)); finds 1 bitmap-table-misaligned; repairs all
damage b; p 8 "$DO" 0; finds 1 bitmap-table-zero; repairs all
damage b; p 4 $((DO + 8)) 0x8000001; finds 1 bitmap-table-too-large; repairs all
damage b; p 4 $((DO + 8)) 2; finds 1 bitmap-table-size; repairs all
damage b; p 8 "$DO" 0x7fff0000; finds 2 bitmap-table-out-of-file; repairs all
damage b; p 8 "$DO" 0x30000; finds 1 bitmap-table-overlap; leaves safe; repairs all
damage b; p 1 $((DO + 17)) 20; finds 0 bitmap-granularity-suspect bitmap-tail-bits; leaves all
damage b; p 8 "$BT" $(($(n 8 "$BT") | 1)); finds 1 bitmap-entry-reserved; repairs safe
damage b; p 8 "$BT" 0x7fff0000; finds 2 bitmap-data-out-of-file; repairs safe
damage b; p 8 "$BT" $L2; finds 2 bitmap-data-overlap; repairs safe
damage b; p 4 $((DO + 12)) $(($(n 4 $((DO + 12))) | 1)); finds 0 bitmap-in-use; leaves safe; repairs all
damage b; p 1 $(($(n 8 "$BT") + 20000)) 1; finds 0 bitmap-tail-bits; leaves safe; repairs all
damage b; p 2 $((DO + 18)) 0; p 8 $((E + 8)) 24; finds 0 bitmap-entry-name; leaves all

# ---- the header's cluster
damage plain; p 4 100 96; finds 1 header-length-short; repairs safe
damage plain; p 4 100 $((65536 + 8)); finds 1 header-length-large; repairs safe
damage plain; p 4 100 105; finds 0 header-length-unaligned; leaves safe; repairs all
damage plain; p 4 100 104; finds 0 header-length-suspect; leaves safe; repairs all
damage plain; p 1 108 1; finds 0 header-padding-nonzero; leaves safe; repairs all
damage plain
move 112 120 400
p 8 112 0x0101010101010101
p 4 100 120
finds 0 header-unknown-fields; leaves all
damage small; p 4 112 0x12345678; p 4 116 392; finds 0 ext-no-end ext-unknown; leaves all
damage plain
p 4 112 0xe2792aca; p 4 116 3; p 8 120 0x7261770000000000
p 4 128 0xe2792aca; p 4 132 5; p 8 136 0x71636f7732000000
p 8 144 0
finds 0 ext-duplicate ext-data-after-end backing-format-orphan
damage plain; p 4 112 0x12345678; finds 0 ext-unknown; leaves all
damage plain; p 8 0x300 1; finds 0 ext-data-after-end; leaves all
damage plain; p 1 121 64; finds 0 feature-table-invalid; leaves safe; repairs all
damage plain; p 4 116 0x17f; finds 0 feature-table-invalid; repairs all
damage extl2; p 8 112 0; finds 0 feature-table-missing ext-data-after-end
damage backing; p 4 16 $(($(n 4 16) + 4)); finds 0 backing-name-nul; leaves safe; repairs all
damage backing; p 4 112 0x12345678; finds 0 backing-format-missing ext-unknown; leaves all
damage backing; p 8 8 0; finds 0 backing-format-orphan; leaves safe; repairs all

# ---- external data files
damage data; p 4 112 0x12345678; finds 1 data-file-missing ext-unknown; leaves all
damage plain; p 4 112 0x44415441; finds 0 data-file-ext-without-bit; leaves all
damage data; p 4 116 7; p 8 120 0x612e71636f773200; finds 0 data-file-self
damage data; p 4 4 2; finds 0 data-file-v2; leaves all
damage data; p 4 60 1; p 8 64 0x30000; finds 2 data-file-snapshots; repairs safe

# ---- encryption
damage luks; p 4 32 3; finds 1 crypt-method-unknown; repairs safe
damage luks; p 4 112 0x11111111; finds 1 crypt-ext-missing ext-unknown; leaves safe; repairs all
damage luks; p 4 32 0; finds 1 crypt-ext-unexpected; leaves safe; repairs all
damage plain; p 4 112 0x0537be77; finds 1 crypt-ext-unexpected; leaves all
damage luks; p 8 120 $(($(n 8 120) + 512)); finds 1 crypt-ext-invalid; leaves all
damage luks; p 8 128 100; finds 1 crypt-length-short; repairs safe
damage luks; p 8 128 $((2 * $(n 8 128))); finds 2 crypt-length-long; repairs safe
damage luks; p 1 "$(n 8 120)" 0x58; finds 1 luks-header-damaged; leaves all
damage luks
for slot in 0 1 2 3 4 5 6 7; do p 4 $(($(n 8 120) + 208 + 48 * slot)) 0xdead; done
finds 1 luks-no-active-key; leaves all

finish
