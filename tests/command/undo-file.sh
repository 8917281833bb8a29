#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Where the undo file goes: beside the image, elsewhere by --undo-file, or nowhere to stay; and what happens where it
# cannot be written.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample clean.qed
mkdir images undo

# ---- elsewhere: nothing is left beside the image
leaking clean.qed images/a.qed
cp images/a.qed before
vd --repair --undo-file=undo/a images/a.qed
expect 1
says out 'undo/a'
holds "the undo file is where it was wanted" [ -s undo/a ]
[ "$(ls images)" = a.qed ] || fail "something is left beside the image: $(ls images)"
cp images/a.qed after
vd undo images/a.qed
expect 8                 # not known from here, and said so
same images/a.qed after
vd undo --undo-file=undo/a images/a.qed
expect 0
same images/a.qed before
leaking clean.qed images/b.qed
cp images/b.qed before
vd --repair --undo-file=undo/b images/b.qed
vd undo undo/b           # it knows its image
expect 0
same images/b.qed before

# an undo that is cut off is found from the image: nothing is written behind the first 256 KiB
leaking clean.qed images/u.qed
cp images/u.qed before
vd --repair --undo-file=undo/u images/u.qed
expect 1
cp images/u.qed after
(ulimit -f 256; "$VDCHECK" undo --undo-file=undo/u images/u.qed) >out 2>&1 && fail "the disk was full"
holds "the undo was begun" [ -s images/u.qed.vdcheck-stub ]
vd images/u.qed
says out 'image.repair-unfinished'
vd --repair=leaks images/u.qed
[ $((status & 8)) -eq 0 ] || fail "the undo is not finished: $(cat out err)"
vd undo images/u.qed
same images/u.qed before
holds "no stub is left" [ ! -e images/u.qed.vdcheck-stub ]

# ---- an undo file that is there is not overwritten, whatever it is
leaking clean.qed images/c.qed
cp images/c.qed before
cp undo/a kept
vd --repair --undo-file=undo/a images/c.qed
expect 12
says out 'undo/a'
says out 'File exists'
same undo/a kept
same images/c.qed before
[ ! -e images/c.qed.vdcheck-stub ] || fail "a stub is left"
vd --repair --undo-file=nosuch/x images/c.qed
expect 12
says out 'nosuch'
says out 'No such file or directory'
same images/c.qed before
vd --repair --undo-file=undo images/c.qed
expect 12
same images/c.qed before
vd --repair --undo-file=images/c.qed images/c.qed
expect 12
same images/c.qed before
ln -s "$scratch/work/through" undo/link
vd --repair --undo-file=undo/link images/c.qed
expect 12
same images/c.qed before
holds_not "a symbolic link was followed" [ -e through ]

# ---- none to stay
leaking clean.qed images/d.qed
vd --repair --no-undo-file images/d.qed
expect 1
[ ! -e images/d.qed.vdcheck-undo ] || fail "an undo file stayed"
leaking clean.qed images/d.qed
vd --repair --no-undo-file --undo-file=undo/d images/d.qed
expect 1
[[ ! -e undo/d && ! -e images/d.qed.vdcheck-undo ]] || fail "an undo file stayed"

# ---- a name that only begins like the usual one is not found by itself: it gets a stub
for name in images/g.qed.vdcheck-undo.bak images/g.qed.vdcheck-undo-1 images/g.qed.vdcheck-undo.77; do
    leaking clean.qed images/g.qed
    cp images/g.qed before
    vd --repair --undo-file=$name --fault=write:cut=1 images/g.qed
    vd images/g.qed
    says out 'image.repair-unfinished'
    vd undo images/g.qed
    expect 0
    same images/g.qed before
    rm images/g.qed*
done

# ---- an interrupted repair is found through the stub, while the undo file lies elsewhere
leaking clean.qed images/e.qed
cp images/e.qed before
vd --repair --undo-file=undo/e --fault=write:cut=1 images/e.qed
holds "the stub is there while the repair is not done" [ -e images/e.qed.vdcheck-stub ]
vd images/e.qed
[ $((status & 4)) -eq 4 ] || fail "an unfinished repair goes unnoticed"
says out 'image.repair-unfinished'
cp images/e.qed half
cp images/e.qed.vdcheck-stub half-stub
cp undo/e half-undo
vd undo images/e.qed
expect 0
same images/e.qed before
[ "$(echo images/e.qed*)" = images/e.qed ] || fail "the stub stays after undo"
cp half images/e.qed
cp half-stub images/e.qed.vdcheck-stub
cp half-undo undo/e
vd --repair images/e.qed
expect 1
says out 'images/e.qed: repaired: 1 unclean state found; left: nothing wrong'
matches out 'taken back with: vdcheck undo /.*/undo/e$'
vd images/e.qed
expect 0
[ ! -e images/e.qed.vdcheck-stub ] || fail "the stub stays after the repair was finished"
vd undo --undo-file=undo/e images/e.qed
expect 0
same images/e.qed before

# what was finished is told as what it is: a repair, of the level that was asked for then
leaking clean.qed images/i.qed
vd --repair=all --fault=write:cut=1 images/i.qed
vd --output=json --repair=leaks images/i.qed
expect 1
sed -n '/"repair": {/,/}/p' "$told/out" >repair
for word in '"level": "all"' '"dry_run": false' '"undo_file": "images/i.qed.vdcheck-undo"' '"verified": true'; do
    grep -qF "$word" repair || fail "the repair that was finished lacks $word: $(cat repair)"
done
grep -qE '"writes": [1-9]' repair || fail "the repair that was finished wrote nothing: $(cat repair)"
grep -qE '"bytes_written": [1-9]' repair || fail "the repair that was finished wrote no bytes: $(cat repair)"
vd --output=json --repair images/i.qed
says out '"repair": null'

# the same, beside the image
leaking clean.qed images/f.qed
cp images/f.qed before
vd --repair --fault=write:cut=1 images/f.qed
vd images/f.qed
says out 'image.repair-unfinished'
[ $((status & 4)) -eq 4 ] || fail "an unfinished repair goes unnoticed"
vd --output=json images/f.qed
says out '"status": "dirty"'
vd info images/f.qed
expect 0
vd map images/f.qed
expect 0
vd undo images/f.qed
expect 0
same images/f.qed before

# a stub that names what is no undo file, or nothing
leaking clean.qed images/g.qed
cp images/g.qed before
for text in '' nosuch "$scratch/work/clean.qed" /dev/null /dev/zero; do
    printf %s "$text" >images/g.qed.vdcheck-stub
    vd images/g.qed
    # The leak is told in any case; a file that is none of ours besides.
    says out 'qed.cluster-leaked'
    case $text in
        /*) [ "$status" -eq 12 ] && says out 'image.undo-file-unusable' ;;
        *) [ "$status" -eq 4 ] ;;
    esac || fail "status $status for a stub that names '$text'"
    vd --repair=all images/g.qed
    [ $((status & 1)) -eq 0 ] || [ -z "$text" ] || fail "repaired, with a stub that names '$text'"
    [ -z "$text" ] || same images/g.qed before
    cp before images/g.qed
    rm -f images/g.qed.vdcheck-undo*
done
rm images/g.qed.vdcheck-stub

# ---- an image by the name of a symbolic link: all lies beside the file itself, and either name finds it
mkdir links
ln -s ../images/l.qed links/l
for name in links/l images/l.qed; do
    leaking clean.qed images/l.qed
    cp images/l.qed before
    vd --repair --fault=write:cut=1 links/l
    [ "$(ls links)" = l ] || fail "something lies beside the link: $(ls links)"
    holds "the undo file is beside the image" [ -e images/l.qed.vdcheck-undo ]
    vd "$name"
    [ $((status & 4)) -eq 4 ] || fail "an unfinished repair goes unnoticed"
    says out 'image.repair-unfinished'
    vd --repair "$name"
    expect 1
    vd --repair "$name"
    expect 0
    vd undo "$name"
    expect 0
    same images/l.qed before
    rm images/l.qed*
    leaking clean.qed images/l.qed
    vd --repair --undo-file=undo/l --fault=write:cut=1 links/l
    holds "the stub is beside the image" [ -e images/l.qed.vdcheck-stub ]
    vd undo "$name"
    expect 0
    same images/l.qed before
    rm -f images/l.qed* undo/l
done

# ---- where no stub can stand, the same words finish what was begun
leaking clean.qed images/m.qed
cp images/m.qed before
vd --repair --no-undo-file images/m.qed
cp images/m.qed after
cp before images/m.qed
vd --repair --undo-file=undo/m --fault=write:cut=1 images/m.qed
rm images/m.qed.vdcheck-stub
cp images/m.qed half
vd --repair --dry-run --undo-file=undo/m images/m.qed
says out 'image.repair-unfinished'
vd --repair --undo-file=undo/m images/m.qed
expect 1
same images/m.qed after
vd undo --undo-file=undo/m images/m.qed
expect 0
same images/m.qed before
# another image's journal is not taken for this one's
leaking clean.qed images/n.qed
cp images/n.qed before
vd --repair --undo-file=undo/n --fault=write:cut=1 images/n.qed
leaking clean.qed images/o.qed
vd --repair --undo-file=undo/n images/o.qed
expect 12
says out 'File exists'
same images/o.qed before
vd undo images/n.qed
expect 0

# ---- nothing is written, and nothing copied, before what was begun is finished
shared clean.qed images/q.qed
cp images/q.qed before
vd --repair --no-undo-file images/q.qed
cp images/q.qed after
for cut in 1 2; do
    rm -f images/q.qed*
    cp before images/q.qed
    vd --repair --fault=write:cut=$cut images/q.qed
    rm -f disk after.raw
    vd salvage images/q.qed disk
    vd salvage after after.raw
    same disk after.raw
    vd io -c 'read -P 2 64k 64k' images/q.qed
    [ "$status" -ne 0 ] || fail "lost data came back"
    says err 'checked and repaired first'
    same images/q.qed after
    vd undo images/q.qed
    expect 0
    same images/q.qed before
done

# ---- what a repair kept as evidence is known to the next one, wherever the undo file lies
shared clean.qed images/p.qed
cp images/p.qed before
vd --repair --undo-file=undo/p images/p.qed
expect 4
cp images/p.qed after
vd --repair images/p.qed
expect 4
says out 'kept below level all'
same images/p.qed after
vd undo images/p.qed
expect 0
same images/p.qed before
holds_not "the stub stays after undo" [ -e images/p.qed.vdcheck-stub ]

# a second repair elsewhere hands the list on
vd --repair --undo-file=undo/p1 images/p.qed
poke images/p.qed 16 2
vd --repair --undo-file=undo/p2 images/p.qed
rm undo/p1
cp images/p.qed after
vd --repair images/p.qed
expect 4
says out 'kept below level all'
same images/p.qed after

# ---- while the undo file that a stub names is away nothing is written, and a check says what it knows
mkdir far
shared clean.qed images/r.qed
cp images/r.qed before
vd --repair --undo-file=far/r --fault=write:cut=1 images/r.qed
mv far away
cp images/r.qed half
vd images/r.qed
expect 4
says out 'image.repair-unfinished'
for words in --repair --repair=all undo 'io -c flush'; do
    # shellcheck disable=SC2086 # words
    vd $words images/r.qed
    [ $((status & 8)) -eq 8 ] || fail "status $status, and the undo file is away"
    cat "$told/err" >>"$told/out"
    says out 'far/r is not there'
    same images/r.qed half
done
mv away far
mv far away
vd io -r -q -c 'read -P 1 0 64k' images/r.qed      # reading hurts nothing
expect 0
vd salvage images/r.qed r.raw
expect 4
same images/r.qed half
mv away far
# what was begun is finished, and what it kept is kept
vd --repair images/r.qed
expect 4
cp images/r.qed after
vd --repair images/r.qed
expect 4
says out 'kept below level all'
same images/r.qed after
# an undo that is cut off is found by the same stub
if has_command sqlite3; then
    sqlite3 far/r "UPDATE meta SET value = 'undoing' WHERE key = 'state'"
    vd images/r.qed
    says out 'image.repair-unfinished'
    sqlite3 far/r "UPDATE meta SET value = 'committed' WHERE key = 'state'"
fi
mv far away
vd images/r.qed
expect 4
lacks out 'image.repair-unfinished'
vd --repair images/r.qed
[ $((status & 8)) -eq 8 ] || fail "status $status, and the list of what was kept is away"
same images/r.qed after
mv away far

# ---- an undo file elsewhere belongs to one image: a copy has no say over it, nor it over a copy; a moved image has
mkdir copies
cp images/r.qed images/r.qed.vdcheck-stub copies
for words in undo --repair; do
    vd $words copies/r.qed
    [ $((status & 8)) -eq 8 ] || [ "$words" = --repair ] || fail "status $status of $words on a copy"
    same copies/r.qed after
done
vd undo --undo-file=far/r copies/r.qed
expect 8
says err 'of which this is a copy'
same copies/r.qed after
rm -r copies
mkdir copies
mv images/r.qed* copies
vd undo copies/r.qed
expect 0
same copies/r.qed before

# ---- a folder that cannot be written: refused before the first write, and --undo-file helps
if can_be_nobody; then
    mkdir shut
    leaking clean.qed shut/h.qed
    cp shut/h.qed before
    chmod 666 shut/h.qed
    chmod 555 shut
    chmod 777 undo
    run as_nobody "$VDCHECK" --repair shut/h.qed
    expect 12
    says out 'h.qed.vdcheck-undo'
    says out 'Permission denied'
    same shut/h.qed before
    says out '--undo-file'
    run as_nobody "$VDCHECK" --repair --undo-file=undo/h shut/h.qed
    expect 1
    run as_nobody "$VDCHECK" shut/h.qed
    expect 0
    run as_nobody "$VDCHECK" undo --undo-file=undo/h shut/h.qed
    expect 0
    same shut/h.qed before
    run as_nobody "$VDCHECK" --repair --dry-run shut/h.qed
    expect 4
else
    skip_part "no setpriv to give up root's rights with"
fi

# ---- a full disk: refused, and the image as it was
if [ "$(id -u)" -eq 0 ] && mkdir small && mount -t tmpfs -o size=2m none small 2>/dev/null; then
    clean_up_more() { umount -l "$scratch/work/small" 2>/dev/null; }
    for room in 0 4k 40k 80k 120k; do
        for kind in shared leaking; do
            $kind clean.qed small/i.qed
            cp small/i.qed before
            [ "$room" = 0 ] || head -c "$room" /dev/zero >small/room
            cat /dev/zero >small/rest 2>/dev/null
            rm -f small/room
            vd --repair small/i.qed
            says out 'i.qed'
            if [ $kind = shared ]; then
                expect 12
                matches out 'No space left on device'
            else
                expect 4      # space is all that is lost, and the undo file could not keep what would be cut off
                says out 'no room'
            fi
            same small/i.qed before
            [ "$(ls small)" = "$(printf 'i.qed\nrest')" ] || fail "files were left behind: $(ls small)"
            vd small/i.qed
            expect 4
            vd --repair --undo-file="undo/$kind-$room" small/i.qed
            [ "$status" -ge 8 ] && same small/i.qed before
            rm -f small/*
        done
    done
    # where only the tail's bytes do not fit, the tail stays and the finding says why
    sample small/j.qed
    head -c 400k /dev/urandom >>small/j.qed
    poke small/j.qed 16 2
    cp small/j.qed before
    dd if=/dev/zero of=small/rest bs=1k count=$(($(stat -f -c '%a * %S / 1024' small) - 1200)) status=none
    vd --repair small/j.qed
    [ "$status" -eq 4 ] || [ "$status" -eq 12 ] || [ "$status" -eq 1 ] || fail "status $status"
    vd small/j.qed
    lacks out corruption
    vd io -r -q -c 'read -P 1 0 64k' -c 'read -P 3 256M 64k' small/j.qed
    expect 0
    # a base whose repair was cut off, and that somebody wrote to since, stays as it is when the room for the overlay's
    # tail makes a second plan necessary
    rm -f small/*
    mount -o remount,size=8m small
    shared clean.qed small/base.qed
    vd --repair --fault=write:cut=1 small/base.qed
    poke small/base.qed $((L2 + 256)) 1
    vd small/base.qed
    expect 12
    says out 'image.undo-file-unusable'
    "$VDCHECK" create -f qed -b base.qed -F qed small/top.qed 8G
    "$VDCHECK" io -q -c 'write -P 3 0 64k' small/top.qed
    head -c 5M /dev/urandom >>small/top.qed
    cp small/base.qed before
    vd -c --repair small/top.qed
    expect 12
    says out 'no room to keep the bytes'
    says out 'image.undo-file-unusable'
    same small/base.qed before
else
    skip_part "no small file system without root"
fi

# ---- a limit on the size of files counts like a full disk
shared clean.qed images/k.qed
cp images/k.qed before
run bash -c 'ulimit -f 8; exec "$VDCHECK" --repair images/k.qed'
expect 12
same images/k.qed before
[ ! -e images/k.qed.vdcheck-undo ] || fail "a useless undo file is left"
finish
