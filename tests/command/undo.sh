#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# undo: every byte and the length come back, the newest repair first, once each; and nothing is written where the image
# is no longer as the repair left it.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed

# ---- every kind of damage, each level
for kind in leaking tail_leaking shared out_of_file dirty; do
    $kind clean.qed u.qed
    cp u.qed before
    vd --repair=all u.qed
    [ $((status & 1)) -eq 1 ] || [ "$status" -eq 4 ] || fail "not repaired"
    cp u.qed after
    vd undo --dry-run u.qed
    expect 0
    says out 'u.qed'
    says out 'could be put back'
    same u.qed after
    vd undo u.qed
    expect 0
    says out 'u.qed: put back'
    says out 'u.qed.vdcheck-undo'
    same u.qed before
    vd undo u.qed
    expect 8
    says err 'u.qed'
    same u.qed before
    vd --repair=all u.qed
    expect 1
    same u.qed after
    holds "the second undo file has the next name" [ -e u.qed.vdcheck-undo.1 ]
    vd undo u.qed
    expect 0
    says out 'u.qed.vdcheck-undo.1'
    same u.qed before
    rm u.qed*
done

# ---- the undo file holds guest data: the image's owner and mode
leaking clean.qed m.qed
chmod 640 m.qed
[ "$(id -u)" -eq 0 ] && chown 1234:2345 m.qed
vd --repair m.qed
expect 1
[ "$(stat -c '%a %u %g' m.qed)" = "$(stat -c '%a %u %g' m.qed.vdcheck-undo)" ] || fail "the undo file's owner or mode"
cp -p m.qed.vdcheck-undo kept
vd undo m.qed
expect 0
holds "the undo file stays after undo" [ -e m.qed.vdcheck-undo ]
[ "$(stat -c '%a %u %g' m.qed)" = "$(stat -c '%a %u %g' m.qed.vdcheck-undo)" ] || fail "undo changed an owner or mode"

# ---- named by the undo file
leaking clean.qed n.qed
cp n.qed before
vd --repair n.qed
expect 1
cp n.qed after
vd undo n.qed.vdcheck-undo
expect 0
says out 'n.qed'
same n.qed before
vd undo n.qed.vdcheck-undo
expect 8
says err 'taken back'
vd --repair n.qed
vd undo --undo-file=n.qed.vdcheck-undo.1 n.qed
expect 0
same n.qed before
vd undo --undo-file=nosuch n.qed
expect 8
says err 'nosuch'
vd undo --undo-file=clean.qed n.qed
expect 8
says err 'clean.qed'
vd undo clean.qed
expect 8
says err 'clean.qed'
says err 'no undo file'

# ---- two repairs, two undos, the newest first
leaking clean.qed t.qed
cp t.qed first
vd --repair t.qed
expect 1
poke t.qed 16 2
cp t.qed second
vd --repair t.qed
expect 1
[[ -e t.qed.vdcheck-undo && -e t.qed.vdcheck-undo.1 ]] || fail "not two undo files"
vd undo t.qed
expect 0
says out 't.qed.vdcheck-undo.1'
same t.qed second
poke t.qed 16 0
vd undo t.qed
expect 8          # the file was written to after the repair, although the bytes are the same again
says err 't.qed'
cp t.qed copy.qed
mv copy.qed t.qed
vd undo t.qed
expect 0          # a copy is judged by its content
says out '(undo file: t.qed.vdcheck-undo)'
same t.qed first

# two real repairs in a row, with nothing in between
tail_leaking clean.qed w.qed
poke w.qed $((L2 + 8)) 0
cp w.qed first
vd --repair=leaks w.qed
expect 4
cp w.qed second
vd --repair w.qed
expect 1
vd undo w.qed
expect 0
same w.qed second
vd undo w.qed
expect 0
same w.qed first
vd undo w.qed
expect 8

# ---- what was written since is not destroyed
for write in 'write -P 9 0 4k' 'write -P 9 4G 4k' 'truncate 9G'; do
    leaking clean.qed c.qed
    vd --repair c.qed
    expect 1
    vd io -c "$write" c.qed
    expect 0
    cp c.qed after
    vd undo c.qed
    expect 8
    says err 'c.qed'
    same c.qed after
    vd undo -n c.qed
    expect 8
    rm c.qed*
done
leaking clean.qed c.qed
vd --repair c.qed
truncate -s +1 c.qed
cp c.qed after
vd undo c.qed
expect 8
same c.qed after
cp c.qed copy.qed
mv copy.qed c.qed
vd undo c.qed
expect 8
says err 'bytes'
same c.qed after
rm c.qed*

# ---- image and undo file, copied elsewhere together, are a pair
mkdir there
leaking clean.qed p.qed
cp p.qed before
vd --repair p.qed
cp p.qed p.qed.vdcheck-undo there/
cp p.qed after
vd undo there/p.qed
expect 0
same there/p.qed before
same p.qed after
vd undo p.qed
expect 0
same p.qed before
cp p.qed.vdcheck-undo there/
vd undo there/p.qed.vdcheck-undo
expect 8          # it was taken back

# ---- a damaged undo file is not used; where the damage meets nothing that is needed, undo is whole
leaking clean.qed d.qed
cp d.qed before
vd --repair d.qed
cp d.qed after
mv d.qed.vdcheck-undo whole
ln d.qed original         # keeps the inode's number from coming back
for at in 100 4000 16384 20000 32768 40000 49152 60000; do
    cp whole d.qed.vdcheck-undo
    cp after copy.qed
    mv copy.qed d.qed     # another inode: it is judged by its content
    printf '\252\125\252\125\252\125\252\125' | dd of=d.qed.vdcheck-undo bs=1 seek=$at conv=notrunc status=none
    vd undo d.qed
    if [ "$status" -eq 0 ]; then
        same d.qed before
    else
        expect 8
        says err 'd.qed.vdcheck-undo'
        same d.qed after
    fi
done
for junk in '' 'no undo file at all'; do
    printf %s "$junk" >d.qed.vdcheck-undo
    cp after copy.qed
    mv copy.qed d.qed
    vd undo d.qed
    expect 8
    same d.qed after
done
rm d.qed.vdcheck-undo
ln -s nowhere d.qed.vdcheck-undo
vd undo d.qed
expect 8
same d.qed after
rm d.qed*

# ---- a repair after an undo has a file of its own, and one without an undo file is gone for good
leaking clean.qed g.qed
vd --repair --no-undo-file g.qed
expect 1
lacks out 'vdcheck undo'
holds_not "an undo file stayed" [ -e g.qed.vdcheck-undo ]
vd undo g.qed
expect 8
finish
