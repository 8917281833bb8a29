#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# salvage: all that can be read, into a new and clean image; what is lost is listed and stands as zeroes.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample a.qed 512M
cp a.qed before

# ---- of a clean image: everything
vd salvage a.qed out.raw
expect 0
silent err
says out 'out.raw'
says out '512 MiB'
says out '192 KiB'
[ "$(size_of out.raw)" -eq $((512 * 1024 ** 2)) ] || fail "size"
[ "$(stat -c %b out.raw)" -lt 2048 ] || fail "holes were filled"
vd io -f raw -r -q -c 'read -P 1 0 64k' -c 'read -P 2 64k 64k' -c 'read -P 3 256M 64k' -c 'read -P 0 128k 1M' out.raw
expect 0
vd salvage -O qed a.qed out.qed
expect 0
vd out.qed
expect 0
vd io -r -q -c 'read -P 1 0 64k' -c 'read -P 2 64k 64k' -c 'read -P 3 256M 64k' -c 'read -P 0 128k 1M' out.qed
expect 0
[ "$(size_of out.qed)" -eq "$(size_of a.qed)" ] || fail "zeroes were allocated"
same a.qed before
vd salvage -q a.qed quiet.raw
expect 0
silent out
rm -f ./*.raw

# ---- nothing that is there is written over
echo precious >there
vd salvage a.qed there
expect 8
says err there
says err 'File exists'
[ "$(cat there)" = precious ] || fail "written over"
vd salvage a.qed a.qed
expect 8
same a.qed before
vd salvage a.qed nosuch/out
expect 8
says err 'nosuch/out'
mkfifo fifo
vd salvage a.qed fifo
expect 8
vd salvage nosuch out.raw
expect 8
says err nosuch
[ ! -e out.raw ] || fail "an output without an input"

# ---- what cannot be read is lost, named, and zero; the list of it stands beside the copy
out_of_file a.qed d.qed
cp d.qed before
vd salvage d.qed out.raw
expect 4
says out '64 KiB lost'
says out 'lost: 64 KiB at 0x10000'
says out '0x60008'
says out 'out.raw.vdcheck-lost'
vd io -f raw -r -q -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' -c 'read -P 3 256M 64k' out.raw
expect 0
same d.qed before
holds "the list of what was lost names it" grep -q 10000 out.raw.vdcheck-lost
rm out.raw*
vd salvage --output=json -O qed d.qed out.qed2
expect 4
says out '"lost_bytes": 65536'
says out '"guest_offset": 65536'
vd out.qed2
expect 0

# a whole table
cp a.qed t.qed
poke t.qed $L1 0x7fff0000
vd salvage t.qed out.raw          # it is in the file, and has one place
expect 0
says out 'put back'
vd io -r -q -f raw -c 'read -P 1 0 64k' out.raw
expect 0
rm out.raw*
table=$(peek a.qed $L1)
poke t.qed "$table" 7             # now it reads as none
vd salvage t.qed out.raw
expect 4
says out '512 MiB lost'
rm out.raw*

# many ranges: twenty for people, all of them on demand and in JSON
"$VDCHECK" create -f qed m.qed 1G
"$VDCHECK" io -q -c 'write -P 1 0 100M' m.qed
table=$(peek m.qed $L1)
for ((i = 0; i < 50; i++)); do
    poke m.qed $((table + 16 * i)) 0x7fff0000
done
vd salvage m.qed out.raw
expect 4
[ "$(grep -c '  lost: ' "$told/out")" -eq 20 ] || fail "not twenty ranges"
says out '30 ranges more'
rm out.raw*
vd salvage -v m.qed out.raw
[ "$(grep -c '  lost: ' "$told/out")" -eq 50 ] || fail "--verbose does not list all"
rm out.raw*
vd salvage --output=json m.qed out.raw
[ "$(grep -c '"guest_offset"' "$told/out")" -eq 50 ] || fail "JSON does not list all"
rm out.raw*

vd salvage a.qed sound.raw

# ---- a header that is broken: read through the repair that is proven, or through a guess that is called one
cp a.qed h.qed
poke h.qed 12 0x1000 4
cp h.qed before
vd salvage h.qed out.raw
expect 0
same h.qed before
lacks out guess
cmp -s out.raw sound.raw || fail "not the guest's data"
rm out.raw*
cp a.qed g.qed
poke g.qed 0 0 1
vd salvage g.qed out.raw
[ "$status" -eq 4 ] || [ "$status" -eq 8 ] || fail "status $status"
if [ -e out.raw ]; then
    says out guess
    cmp -s out.raw sound.raw || fail "not the guest's data"
    rm out.raw*
fi
# a boot sector over the header: with the format named, what the tables lead to comes out
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=2 boot.qed 16M
vd io -q -c 'write -P 7 0 1M' -c 'write -P 8 9M 64k' boot.qed
head -c 512 /dev/zero | tr '\0' '\353' | dd of=boot.qed conv=notrunc status=none
vd salvage boot.qed boot.raw
expect 8
says err '--format'
vd salvage -f qed boot.qed boot.raw
expect 4
says out 'all of it is a guess'
vd io -q -r -f raw -c 'read -P 7 0 1M' -c 'read -P 0 1M 8M' -c 'read -P 8 9M 64k' boot.raw
expect 0

# a copy in the image's own format has its geometry, but for one that no QEMU opens
for options in cluster_size=4k,table_size=2 cluster_size=1M,table_size=4 cluster_size=64k,table_size=1; do
    rm -f like.qed copy.qed
    "$VDCHECK" create -f qed -o $options like.qed 64M
    vd io -q -c 'write -P 7 1M 1M' like.qed
    vd salvage -O qed like.qed copy.qed
    expect 0
    case $options in
    *table_size=1) [ "$(peek copy.qed 4)" -eq $((4 << 32 | 65536)) ] || fail "the copy of a $options image" ;;
    *) [ "$(peek copy.qed 4)" -eq "$(peek like.qed 4)" ] || fail "the copy has another geometry: $options" ;;
    esac
    vd io -r -q -c 'read -P 7 1M 1M' -c 'read -P 0 2M 62M' copy.qed
    expect 0
done
rm -f like.qed copy.qed
for options in cluster_size=4k cluster_size=2M,refcount_bits=64 cluster_size=16k,extended_l2=on compat=0.10 lazy_refcounts=on; do
    rm -f like.qcow2 copy.qcow2
    "$VDCHECK" create -f qcow2 -o $options like.qcow2 64M
    vd io -q -c 'write -P 7 1M 1M' like.qcow2
    vd salvage -O qcow2 like.qcow2 copy.qcow2
    expect 0
    vd info like.qcow2
    grep -E 'cluster-size|refcount-bits|extended-l2|compat|lazy' "$told/out" >like
    vd info copy.qcow2
    grep -E 'cluster-size|refcount-bits|extended-l2|compat|lazy' "$told/out" >copy
    same like copy
    vd copy.qcow2
    expect 0
done
rm -f like* copy*

# only the header is repaired for that: what a repair would clear is lost, and not zeroes of the guest's
cp h.qed hl.qed
poke hl.qed $((L1 + 8)) 0x7fff0001
poke hl.qed $(($(peek hl.qed $L1) + 8)) 0x7fff0000
vd salvage hl.qed out.raw
expect 4
says out '64 KiB lost'
says out 'lost: 64 KiB at 0x10000'
vd io -f raw -r -q -c 'read -P 1 0 64k' -c 'read -P 0 64k 64k' out.raw
expect 0
rm out.raw*
cp g.qed gl.qed
poke gl.qed $(($(peek gl.qed $L1) + 8)) 0x7fff0000
vd salvage gl.qed out.raw
if [ -e out.raw ]; then
    expect 4
    says out 'lost: 64 KiB at 0x10000'
    rm out.raw*
fi
truncate -s 40 s.qed
printf 'QED\0' | dd of=s.qed conv=notrunc status=none
vd salvage s.qed out.raw
expect 8
says err s.qed
[ ! -e out.raw ] || fail "an output without anything in it"

# ---- shared clusters can all be read, but one of the two has lost its own; a table of zeroes reads as an empty disk
shared a.qed sh.qed
poke sh.qed 16 2
vd salvage sh.qed out.raw
expect 4
says out 'damaged'
holds "the list names both" grep -q '^0x0 131072 guessed .*cluster' out.raw.vdcheck-lost
vd io -f raw -r -q -c 'read -P 1 0 128k' out.raw
expect 0
rm out.raw*

cp a.qed empty.qed
dd if=/dev/zero of=empty.qed bs=64k seek=1 count=1 conv=notrunc status=none
vd salvage empty.qed out.raw
expect 4
says out 'guessed: '
says out 'out.raw.vdcheck-lost'
holds "the list names the guess" grep -q '^0x0 [0-9]* guessed ' out.raw.vdcheck-lost
vd io -f raw -r -q -c 'read -P 1 0 64k' out.raw
expect 0
rm out.raw* empty.qed

# Of a table of zeroes nothing can be put back: the range that it mapped is in the list. One that a guest never filled
# leaves no clusters behind, and is not.
cp a.qed empty.qed
dd if=/dev/zero of=empty.qed bs=64k seek=$((L2 / C)) count=4 conv=notrunc status=none
vd salvage empty.qed out.raw
expect 4
says out 'guessed: 512 MiB at 0x0: its table is empty'
holds "the list names the doubt" grep -q '^0x0 536870912 guessed ' out.raw.vdcheck-lost
rm out.raw* empty.qed
"$VDCHECK" create -f qed empty.qed 8G
"$VDCHECK" io -q -c 'zero 0 64k' empty.qed
table=$(peek empty.qed $L1)
poke empty.qed "$table" 0
vd salvage empty.qed out.raw
expect 0
lacks out guessed
rm out.raw* empty.qed

# A table of which the end of the file leaves a part: what that part says is a guess, the rest is lost.
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=2 cut.qed 8M
"$VDCHECK" io -q -c 'write -P 9 0 8k' cut.qed
truncate -s $((9 * 4096)) cut.qed
poke cut.qed 4096 $((8 * 4096))
vd salvage cut.qed out.raw
expect 4
holds "what is behind the end is lost" grep -q '^0x200000 2097152 lost ' out.raw.vdcheck-lost
holds "what is there is a guess" grep -q '^0x0 2097152 guessed .*ends behind it' out.raw.vdcheck-lost
says out '2 MiB lost'
vd salvage --output=json cut.qed again.raw
says out '"guessed_bytes": 2097152'
rm out.raw* again.raw* cut.qed

# ---- with its base, whose data is the guest's as well; without it, what the image itself holds, and that is said
"$VDCHECK" create -f qed -b a.qed -F qed o.qed 512M
"$VDCHECK" io -q -c 'write -P 9 0 4k' o.qed
vd salvage o.qed out.raw
expect 0
vd io -f raw -r -q -c 'read -P 9 0 4k' -c 'read -P 1 4k 60k' -c 'read -P 3 256M 64k' out.raw
expect 0
rm out.raw*
cp o.qed nameless.qed
poke nameless.qed 56 99999 4              # where the name stands
vd salvage nameless.qed out.raw           # what the base would give is lost, and not the guest's zeroes
expect 4
says out "the backing file's name is lost"
lacks out ' 0 bytes lost'
vd io -f raw -r -q -c 'read -P 9 0 4k' out.raw
expect 0
rm out.raw*
mkdir away
mv a.qed away/
vd salvage o.qed out.raw
[ "$status" -eq 4 ] || fail "the base is missing, and the copy is called whole"
cat "$told/out" >>"$told/err"
says err a.qed
rm -f out.raw*
mv away/a.qed .
mkdir over
"$VDCHECK" create -f qed -b ../a.qed -F qed over/o.qed 512M
vd salvage over/o.qed out.raw
[ "$status" -eq 4 ] || fail "the base is refused, and the copy is called whole"
rm -f out.raw*
vd salvage --allow=. over/o.qed out.raw
expect 0
cmp -s out.raw sound.raw || fail "not the guest's data"
rm -f out.raw*

# ---- a spot of a table that cannot be read costs what it decides, and no more; a table that is cut off is read as
# far as it goes
"$VDCHECK" create -f qed bad.qed 8G
"$VDCHECK" io -q -c 'write -P 1 0 64k' -c 'write -P 2 64M 64k' bad.qed
bytes=$(($(peek bad.qed $L1) + 4096))
vd salvage --fault=read:errno=EIO,offset=$bytes,bytes=4k bad.qed out.raw
expect 4
says out '32 MiB lost'
says out 'lost: 32 MiB at 0x2000000: '
vd io -f raw -r -q -c 'read -P 1 0 64k' -c 'read -P 2 64M 64k' out.raw
expect 0
rm out.raw*
"$VDCHECK" io -q -c 'write -P 1 2G 64k' bad.qed      # behind the table of the second slot
table=$(peek bad.qed $((L1 + 8)))
truncate -s $((table + 2 * C)) bad.qed
vd salvage bad.qed out.raw
expect 4
says out 'lost: 1 GiB at 0xc0000000: '
vd io -f raw -r -q -c 'read -P 1 0 64k' -c 'read -P 2 64M 64k' out.raw
expect 0
rm out.raw*

# so is a data cluster
"$VDCHECK" create -f qed cut.qed 64M
"$VDCHECK" io -q -c 'write -P 3 0 64k' -c 'write -P 4 64k 64k' cut.qed
truncate -s -1k cut.qed
vd salvage cut.qed out.raw
expect 4
says out '1 KiB lost'
says out 'lost: 1 KiB at 0x1fc00: '
vd io -f raw -r -q -c 'read -P 3 0 64k' -c 'read -P 4 64k 63k' -c 'read -P 0 127k 1k' out.raw
expect 0
rm out.raw*

# ---- raw to raw, and an image without a byte
vd salvage -f raw a.qed out.raw
expect 0
same a.qed out.raw
rm out.raw*
"$VDCHECK" create -f qed z.qed 0
vd salvage z.qed out.raw
expect 0
[ "$(size_of out.raw)" -eq 0 ] || fail "size"
rm out.raw*

# ---- a full disk
if [ "$(id -u)" -eq 0 ] && mkdir small && mount -t tmpfs -o size=100k none small 2>/dev/null; then
    clean_up_more() { umount -l "$scratch/work/small" 2>/dev/null; }
    vd salvage a.qed small/out.raw
    expect 8
    says err 'No space left'
    [ ! -e small/out.raw ] || fail "half a copy is left behind, and looks whole"
else
    skip_part "no small file system without root"
fi
finish
