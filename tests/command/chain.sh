#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# --backing-chain: the base first; what cannot be followed is said, and never opened; a repair of a chain is one.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# image FILE [CREATE OPTIONS]: 1 GiB with a cluster of data
image()
{
    local file=$1

    shift
    "$VDCHECK" create -f qed "$@" "$file" 1G || exit 99
    "$VDCHECK" io -q --allow=/ -c 'write -P 5 0 4k' "$file" || exit 99
}

# says_id SEVERITY ID
says_id()
{
    says out "[$2]"
    says out "$1: "
}

image base.qed
image mid.qed -b base.qed
image top.qed -b mid.qed

# ---- order: the base first, each once
vd -c top.qed
expect 0
[ "$(sed -n 's/: clean.*//; s|.*/||; p' "$told/out" | tr '\n' ' ')" = 'base.qed mid.qed top.qed ' ] || fail "order"
vd top.qed
[ "$(wc -l <"$told/out")" -eq 1 ] || fail "without -c only the image itself is checked"
vd -c --output=json top.qed
expect 0
[ "$(grep -c '"path"' "$told/out")" -eq 3 ] || fail "not three images in JSON"
vd info -c top.qed
expect 0
[ "$(grep -c '^filename' "$told/out")" -eq 3 ] || fail "info -c: not three images"
says out 'backing-filename'
vd info --output=json -c top.qed
expect 0

# ---- damage in a base is the base's
cp base.qed whole
poke base.qed 16 2
vd top.qed
expect 0
vd -c top.qed
expect 4
says out 'base.qed: not closed cleanly'
says out 'top.qed: clean'
vd -c --if-dirty top.qed
expect 4
lacks out 'top.qed: clean'
cp whole base.qed

# ---- a raw base has nothing that could be checked, and nothing wrong with it
head -c 1M /dev/zero >base.raw
image on-raw.qed -b base.raw -F raw
vd on-raw.qed
expect 0
vd -c on-raw.qed
expect 0
vd -c --exit-code=qemu on-raw.qed
expect 0

# ---- missing
image gone.qed
image lost.qed -b gone.qed
rm gone.qed
vd lost.qed
expect 0
says_id warning image.backing-missing
says out gone.qed
vd -c lost.qed
expect 12
says_id error image.backing-missing
vd -c --output=json lost.qed
expect 12
says out '"status": "error"'
vd -c --repair=all lost.qed
expect 12
[ ! -e lost.qed.vdcheck-undo ] || fail "a repair without a finding to fix"
vd info lost.qed
expect 0
says out missing
vd io -r -c 'read 0 1' lost.qed
expect 8
says err gone.qed

# ---- outside the image's own folder: refused, unless allowed
mkdir images bases other
image bases/base.qed
image images/over.qed -b ../bases/base.qed
vd images/over.qed
expect 0
says_id warning image.reference-refused
says out '../bases/base.qed'
says out '--allow'
vd -c images/over.qed
expect 12
says_id error image.reference-refused
vd -c --allow=bases images/over.qed
expect 0
lacks out refused
vd -c --allow=other --allow=bases images/over.qed
expect 0
vd -c --allow=other images/over.qed
expect 12
vd -c --allow=. images/over.qed
expect 0
vd -c --allow=/ images/over.qed
expect 0
vd -c --allow=nosuch images/over.qed
expect 12
vd info images/over.qed
expect 0
says out refused
vd io -r -c 'read 1M 1' images/over.qed
expect 8
says err '--allow'
vd io -r --allow=bases -c 'read 1M 1' images/over.qed
expect 0
# a folder whose name only begins like the allowed one
mkdir bas
vd -c --allow=bas images/over.qed
expect 12
# a link inside the folder that leads out of it
ln -s ../bases/base.qed images/link
image images/linked.qed -b link
vd -c images/linked.qed
expect 12
says_id error image.reference-refused
# a path from the root
image images/absolute.qed -b "$scratch/work/bases/base.qed"
vd -c images/absolute.qed
expect 12
image images/inside.qed -b "$scratch/work/images/absolute.qed"
vd -c images/inside.qed
expect 12        # its base is inside, and that one's is not
vd -c --allow=bases images/inside.qed
expect 0

# ---- what is no file: never opened, whatever is allowed
mkfifo images/fifo
for name in 'nbd://localhost/x' 'json:{"driver":"null-co"}' fifo /dev/zero /dev/stdin . 'fd:0' 'nbd:unix:/x' 'http://x/y'; do
    "$VDCHECK" create -f qed images/n.qed 1M
    # the header is made by hand: bit 0, and the name behind it
    poke images/n.qed 16 1
    poke images/n.qed 56 64 4
    poke images/n.qed 60 ${#name} 4
    printf %s "$name" | dd of=images/n.qed bs=1 seek=64 conv=notrunc status=none
    vd images/n.qed
    expect 0
    matches out 'image.(reference-refused|backing-missing)'
    vd -c --allow=/ images/n.qed
    expect 12
    vd info images/n.qed
    expect 0
    vd io -r -c 'read 0 1' images/n.qed
    expect 8
    vd salvage images/n.qed images/out.raw
    [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || [ "$status" -eq 8 ] || fail "salvage"
    rm -f images/n.qed images/out.raw*
done

# ---- loops
image l1.qed
image l2.qed -b l1.qed
image l3.qed -b l2.qed
mv l3.qed l1.qed
vd -c l1.qed
expect 4
says_id corruption image.backing-loop
vd -c --repair=all l1.qed
expect 4
image self.qed
image self2.qed -b self.qed
mv self2.qed self.qed
vd -c self.qed
expect 4
says_id corruption image.backing-loop
vd self.qed      # what its own name leads to is known without opening it
expect 4
says_id corruption image.backing-loop
for words in -r -q; do
    vd io $words -c 'read 1M 1' self.qed
    expect 8
    says err 'already part of the chain'
done
ln l2.qed hard.qed
vd -c hard.qed
expect 4         # the same file by another name
says_id corruption image.backing-loop

# ---- sizes and formats that differ
"$VDCHECK" create -f qed small.qed 1M
"$VDCHECK" create -f qed -b small.qed larger.qed 2M
vd -c larger.qed
expect 0
says_id warning image.backing-smaller
"$VDCHECK" create -f qed -b larger.qed smaller.qed 1M
vd -c smaller.qed
expect 0
says_id warning image.backing-larger
"$VDCHECK" create -f qed -b small.qed -F raw mismatch.qed 1M 2>/dev/null
vd -c mismatch.qed
[ "$status" -eq 0 ] || fail "a base declared raw that looks like QED is a warning"
says_id warning image.backing-format-mismatch

# ---- a repair of a chain is one repair: damage in the base and in the overlay
image rbase.qed
image rtop.qed -b rbase.qed
for f in rbase.qed rtop.qed; do
    table=$(peek $f $L1)
    truncate -s +64k $f
    poke $f $((table + 8)) "$(peek $f "$table")"      # shared
    poke $f 16 $(($(peek $f 16) | 2))
done
cp rbase.qed rbase.before
cp rtop.qed rtop.before
vd -c rtop.qed
expect 4
vd -c --repair -n rtop.qed
expect 4
same rbase.qed rbase.before
same rtop.qed rtop.before
vd -c --repair=all rtop.qed
expect 1
[[ -e rbase.qed.vdcheck-undo && -e rtop.qed.vdcheck-undo ]] || fail "not an undo file for each"
cp rbase.qed rbase.after
cp rtop.qed rtop.after
vd -c rtop.qed
expect 0
# the base's part alone is not taken back, and the message names where the whole is
for words in rbase.qed rbase.qed.vdcheck-undo; do
    vd undo $words
    expect 8
    says err rtop.qed.vdcheck-undo
    same rbase.qed rbase.after
done
vd undo rtop.qed
expect 0
same rbase.qed rbase.before
same rtop.qed rtop.before
vd undo rtop.qed
expect 8
# again, with the journals elsewhere
vd -c --repair=all --undo-file=elsewhere rtop.qed
expect 1
same rbase.qed rbase.after
[ -e elsewhere ] || fail "the undo file is not where it was wanted"
[[ ! -e rbase.qed.vdcheck-undo.1 && ! -e rtop.qed.vdcheck-undo.1 ]] || fail "undo files beside the images, too"
vd undo --undo-file=elsewhere rtop.qed
expect 0
same rbase.qed rbase.before
same rtop.qed rtop.before
# only the base needs a repair: the state still stands with the image that was named
rm -f ./*.vdcheck-undo* elsewhere*
cp rtop.after rtop.qed
vd -c --repair=all rtop.qed
expect 1
vd undo rbase.qed
expect 8
says err rtop.qed
vd undo rtop.qed
expect 0
same rbase.qed rbase.before
same rtop.qed rtop.after
# a refusal for one is a refusal for all: the base is written to between repair and undo
rm -f ./*.vdcheck-undo*
cp rtop.before rtop.qed
vd -c --repair=all rtop.qed
expect 1
"$VDCHECK" io -q -c 'write -P 7 0 512' rbase.qed
cp rbase.qed rbase.now
vd undo rtop.qed
expect 8
says err rbase.qed
same rbase.qed rbase.now
same rtop.qed rtop.after

# ---- an undo in a copy of the folder leaves the first alone, also by the names that the journals keep
rm -f ./*.vdcheck-undo*
mkdir first
cp rbase.before first/rbase.qed
cp rtop.before first/rtop.qed
vd -c --repair=all first/rtop.qed
expect 1
cp -r first second
vd undo second/rtop.qed
expect 0
same first/rbase.qed rbase.after
same first/rtop.qed rtop.after
same second/rbase.qed rbase.before
same second/rtop.qed rtop.before
rm -r second
mv first second
vd undo second/rtop.qed
expect 0
same second/rbase.qed rbase.before
same second/rtop.qed rtop.before

# ---- begun in one folder, finished from another, or after the folder was moved
for from in . second third; do
    rm -rf second third
    mkdir second
    cp rbase.before second/rbase.qed
    cp rtop.before second/rtop.qed
    (cd second && "$VDCHECK" -c --repair=all --fault=write:cut=2 rtop.qed) >/dev/null 2>&1
    folder=second
    [ $from != third ] || { mv second third && folder=third; }
    vd -c $folder/rtop.qed
    says out image.repair-unfinished
    vd -c --repair $folder/rtop.qed
    expect 1
    vd -c $folder/rtop.qed
    expect 0
    vd undo $folder/rtop.qed
    expect 0
    same $folder/rbase.qed rbase.before
    same $folder/rtop.qed rtop.before
done

# ---- the undo file of a member that somebody else put there has no say over a file of ours
if [ "$(id -u)" -eq 0 ]; then
    rm -rf second third
    mkdir second
    cp rbase.before second/rbase.qed
    cp rtop.before second/rtop.qed
    vd -c --repair=all second/rtop.qed
    chown 65534 second/*.vdcheck-undo second/rtop.qed
    cp second/rbase.qed now
    vd undo second/rtop.qed
    expect 8
    says err 'belongs to user'
    same second/rbase.qed now
    chown 65534 second/rbase.qed
    vd undo second/rtop.qed
    expect 0
    same second/rbase.qed rbase.before
fi

# ---- a header without a geometry does not end the chain: its backing file's name is there
cp rbase.before nbase.qed
"$VDCHECK" create -f qed -b nbase.qed -F qed ntop.qed 1G
poke ntop.qed 4 0x10001000 4
vd -c ntop.qed
expect 4
says out 'ntop.qed: DAMAGED'
says out 'nbase.qed: DAMAGED'
poke ntop.qed 4 65536 4
poke ntop.qed 60 1000000 4     # and one that cannot be found is said
vd -c ntop.qed
[ "$status" -ne 0 ] || fail "a chain that ends silently"

# ---- a chain longer than any, and none that hangs
cp rbase.after c0.qed
for ((i = 1; i <= 20; i++)); do
    "$VDCHECK" create -f qed -b c$((i - 1)).qed c$i.qed 1G
done
vd -c c20.qed
expect 0
[ "$(wc -l <"$told/out")" -eq 21 ] || fail "not 21 images"
finish
