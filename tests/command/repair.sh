#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What a repair promises to whoever asks for one: the level is kept, a dry run writes nothing, a second repair changes
# nothing, what is refused is refused before the first write.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed

# ---- a check writes nothing, not even a time stamp
out_of_file clean.qed a.qed
cp a.qed before
touch -d '2001-02-03 04:05:06.789' a.qed
stat -c '%s %X %Y %Z %b %i' a.qed >stamps
echo ./* >"$told/names"
for words in '' --deep -v --output=json --output=qemu-json -c map info 'info -c' 'map --output=json' 'io -r -c map' \
    '--repair --dry-run' '--repair=all -n' '--repair=leaks -n' -U; do
    # shellcheck disable=SC2086 # words
    vd $words a.qed
    stat -c '%s %X %Y %Z %b %i' a.qed | cmp -s - stamps || fail "a look at the image changed its time stamps or size"
done
vd salvage a.qed out.raw
expect 4
stat -c '%s %X %Y %Z %b %i' a.qed | cmp -s - stamps || fail "salvage changed the image's time stamps or size"
rm out.raw out.raw.vdcheck-lost
same a.qed before
echo ./* | cmp -s - "$told/names" || fail "files were left behind: $(echo ./*)"

# ---- what a dry run says
vd --repair=all --dry-run a.qed
expect 4
says out 'would be repaired'
says out 'nothing was written'
same a.qed before
vd --repair=safe -n a.qed
expect 4
lacks out 'would be repaired'

# ---- what is left to do is only said where something can be done: not while it is not known what is used
dirty clean.qed n.qed
vd n.qed
says out 'next: vdcheck --repair --dry-run n.qed   shows the repair, without --dry-run makes it'
for place in 0 $L1 $L2; do
    for words in '' '--repair -n' '--repair=all -n' --repair; do
        # shellcheck disable=SC2086 # words
        vd $words --fault=read:errno=EIO,offset="$place",bytes=4k n.qed
        [ $((status & 8)) -eq 8 ] || fail "status $status"
        lacks out 'next:'
    done
done

# ---- leaks means leaks
for kind in leaking shared out_of_file dirty; do
    $kind clean.qed l.qed
    cp l.qed before
    vd --repair=leaks l.qed
    expect 4
    same l.qed before
    holds_not "a repair that did nothing made an undo file" [ -e l.qed.vdcheck-undo ]
done
tail_leaking clean.qed l.qed
vd --repair=leaks l.qed
expect 1
says out 'repaired'
says out 'vdcheck undo l.qed'
same l.qed clean.qed
vd l.qed
expect 0
rm l.qed*

# ---- what stands before the word is the image: -r takes no value, --repair one with "=" only
leaking clean.qed r.qed
vd -r r.qed
expect 1
rm r.qed*
leaking clean.qed r.qed
vd --repair r.qed
expect 1

# ---- a second repair changes nothing, and does not touch the first one's undo file
cp r.qed repaired
cp r.qed.vdcheck-undo undo
vd --repair=all r.qed
expect 0
same r.qed repaired
same r.qed.vdcheck-undo undo
holds_not "a second undo file for nothing" [ -e r.qed.vdcheck-undo.1 ]

# ---- both owners of a shared cluster keep reading, and the file is sound
shared clean.qed s.qed
vd --repair s.qed
expect 4          # the orphan may be what one of the two lost: it is evidence, and stays
says out '[qed.l2-entry-shared]'
says out 'done: 1 of 1'
says out '64 KiB'
vd s.qed
expect 4
lacks out corruption
says out 'leak'
vd io -r -q -c 'read -P 1 0 64k' -c 'read -P 1 64k 64k' -c 'read -P 3 256M 64k' s.qed
expect 0

# ---- only what can be written is repaired, and it is said before anything is tried
leaking clean.qed ro.qed
cp ro.qed before
chmod 444 ro.qed
if can_be_nobody; then
    chmod 777 .
    run as_nobody "$VDCHECK" ro.qed
    expect 4
    run as_nobody "$VDCHECK" --repair --dry-run ro.qed
    expect 4
    says out 'would be repaired'
    run as_nobody "$VDCHECK" --repair ro.qed
    expect 12         # it is checked all the same, and what was found is left
    says out 'ro.qed'
    says out 'Permission denied'
    same ro.qed before
    run as_nobody "$VDCHECK" io -c 'write 0 1' ro.qed
    expect 8
    says err 'ro.qed'
    says err 'Permission denied'
    run as_nobody "$VDCHECK" io -r -c 'read -P 1 0 1' ro.qed
    expect 0
    run as_nobody "$VDCHECK" undo ro.qed
    expect 8
    holds_not "an undo file was left behind" [ -e ro.qed.vdcheck-undo ]
else
    skip_part "no setpriv to give up root's rights with"
fi

# ---- a file system that is read-only
if [ "$(id -u)" -eq 0 ] && mkdir ro && mount --bind . ro 2>/dev/null; then
    clean_up_more() { umount -l "$scratch/work/ro" 2>/dev/null; }
    if mount -o remount,bind,ro ro 2>/dev/null; then
        vd ro/ro.qed
        expect 4
        vd --repair ro/ro.qed
        expect 12
        says out 'Read-only file system'
        vd --repair --dry-run ro/ro.qed
        expect 4
        same ro.qed before
    else
        skip_part "no read-only bind mount"
    fi
    umount ro
else
    skip_part "no bind mount without root"
fi
finish
