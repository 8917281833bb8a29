#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The exit status: a sum over all images in fsck's convention, the worst image in qemu-img's.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed
leaking clean.qed leaking.qed
tail_leaking clean.qed tail.qed
dirty clean.qed dirty.qed
out_of_file clean.qed damaged.qed
shared clean.qed shared.qed
cp clean.qed warning.qed
poke warning.qed 24 $((1 << 40))
cp clean.qed unsupported.qed
poke unsupported.qed 16 8
echo 'no image' >unknown
dirty clean.qed both.qed
poke both.qed $((L2 + 16)) 0x7fff0000

# is FSCK QEMU STATUS WORD...
is()
{
    local fsck=$1 qemu=$2 word=$3

    shift 3
    vd "$@"
    expect "$fsck"
    vd --output=json "$@"
    expect "$fsck"
    [ "$word" = - ] || says out "\"status\": \"$word\""
    vd --exit-code=fsck "$@"
    expect "$fsck"
    vd --exit-code=qemu "$@"
    expect "$qemu"
    vd --exit-code=qemu --output=qemu-json "$@"
    expect "$qemu"
}

# one image
is 0 0 clean clean.qed
is 0 0 clean warning.qed
is 4 3 leaking leaking.qed
is 4 3 leaking tail.qed
is 4 0 dirty dirty.qed
is 4 2 damaged damaged.qed
is 4 2 damaged shared.qed
is 4 2 damaged both.qed
is 12 1 unsupported unsupported.qed     # the driver is there, the feature is not: it was found, and not checked
is 8 63 unsupported unknown
is 8 1 error nosuch
is 8 63 unsupported -f raw clean.qed

# several: or-ed in one convention, the first of 1, 63, 2, 3 in the other
is 4 3 - clean.qed leaking.qed
is 4 3 - leaking.qed clean.qed
is 4 2 - leaking.qed damaged.qed
is 4 2 - damaged.qed leaking.qed
is 12 1 - damaged.qed nosuch
is 12 1 - nosuch leaking.qed
is 8 63 - unknown clean.qed
is 12 63 - unknown leaking.qed
is 12 1 - unknown nosuch damaged.qed dirty.qed
is 12 63 - damaged.qed unknown
is 0 0 - clean.qed warning.qed clean.qed

# repaired FSCK QEMU STATUS LEVEL IMAGE...: of a repair, of its dry run before, and of a repair after it
repaired()
{
    local fsck=$1 qemu=$2 word=$3 level=$4 name

    shift 4
    for name; do
        cp "$name" "r-$name"
    done
    vd --repair="$level" --dry-run "${@/#/r-}"
    expect 4
    for name; do
        same "$name" "r-$name"
    done
    vd --repair="$level" --output=json "${@/#/r-}"
    expect "$fsck"
    [ "$word" = - ] || says out "\"status\": \"$word\""
    for name; do
        cp "$name" "r-$name"
    done
    rm -f r-*.vdcheck-undo*
    vd --repair="$level" --exit-code=qemu "${@/#/r-}"
    expect "$qemu"
    vd --repair="$level" "${@/#/r-}"
    expect $((fsck & ~1))
    rm -f r-*
}

repaired 1 0 repaired safe leaking.qed
repaired 1 0 repaired leaks tail.qed
repaired 1 0 repaired safe dirty.qed
repaired 1 0 repaired all damaged.qed
repaired 4 2 damaged safe damaged.qed       # nothing of it is proven
repaired 4 2 damaged leaks shared.qed
repaired 4 0 dirty leaks dirty.qed
repaired 5 2 - safe damaged.qed leaking.qed # one left, one repaired
repaired 1 0 - safe leaking.qed tail.qed
repaired 1 0 repaired safe both.qed         # need-check proves that the write never completed

# a repair of what is clean changes nothing and says 0
cp clean.qed r.qed
vd --repair r.qed clean.qed
expect 0
same clean.qed r.qed
holds_not "an undo file was made for nothing" [ -e r.qed.vdcheck-undo ]

# only what is dirty: the others are not looked at, and count for nothing
vd --if-dirty damaged.qed clean.qed
expect 0
silent out
vd --if-dirty -v damaged.qed
says out 'damaged.qed'
vd --if-dirty damaged.qed dirty.qed
expect 4
vd --if-dirty --repair damaged.qed dirty.qed
expect 1
vd --if-dirty nosuch
expect 8
finish
