#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Small files that claim much: the work is bounded by what a file really holds, also that of a repair.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# fill_words FILE OFFSET COUNT VALUE: so many equal 8-byte words; COUNT is a power of two.
fill_words()
{
    local n=1

    rm -f words
    : >words
    truncate -s 8 words
    poke words 0 "$4"
    while [ $n -lt "$3" ]; do
        cat words words >more && mv more words
        n=$((n * 2))
    done
    dd if=words of="$1" bs=4096 seek=$(($2 / 4096)) conv=notrunc status=none
}

# ---- every entry of both tables names the same: copies for all would take 256 GiB, so none are made
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=16 same.qed 256G
"$VDCHECK" io -q -c 'write -P 1 0 4k' same.qed
table=$(peek same.qed 4096)
data=$(peek same.qed "$table")
fill_words same.qed 4096 8192 "$table"
fill_words same.qed "$table" 8192 "$data"
cp same.qed before
vd same.qed
expect 4
for level in leaks safe all; do
    vd --repair=$level same.qed
    expect 4
    same same.qed before
done

# ---- a hole of terabytes costs nothing to look at through a repair
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=16 hole.qed 1G
"$VDCHECK" io -q -c 'write -P 1 0 4k' hole.qed
end=$(size_of hole.qed)
if truncate -s 8T hole.qed 2>/dev/null; then
    poke hole.qed 16 8
    vd -f qed --repair=all --dry-run hole.qed
    says out qed.feature-unknown
    poke hole.qed 16 0
    vd --repair=leaks hole.qed
    expect 1
    says out qed.tail-leaked
    [ "$(size_of hole.qed)" -eq "$end" ] || fail "the tail is $(size_of hole.qed) bytes long still"
    vd undo hole.qed
    expect 0
    [ "$(size_of hole.qed)" -eq $((8 << 40)) ] || fail "undo did not bring the length back"
else
    skip_part "no files of 8 TiB here"
fi

# ---- orphaned tables, each naming the next and the last the first: a cluster is leaked once
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=1 orphans.qed 1G
truncate -s $((34 * 4096)) orphans.qed
for ((i = 2; i < 34; i++)); do
    poke orphans.qed $((i * 4096 + 4088)) $((i < 33 ? (i + 1) * 4096 : 8192))
done
vd --output=json orphans.qed
expect 4
says out '"id": "qed.orphan-l2-table"'
says out '"leaks": 32'
says out '"leaked_bytes": 131072'

# ---- more wrong entries than are listed: all are counted, by a check and by a repair
pattern()
{
    printf "$1" >pattern
    for ((i = 0; i < $2; i++)); do
        cat pattern pattern >doubled && mv doubled pattern
    done
}

"$VDCHECK" create -f qed -o cluster_size=64M,table_size=16 slots.qed 8T
pattern '\1\1\1\1\1\1\1\1' 21
dd if=pattern of=slots.qed bs=1M seek=64 conv=notrunc status=none
vd slots.qed
expect 4
says out 'DAMAGED: 2097152 corruptions'
vd --repair=all slots.qed
expect 1
says out '2097152 corruptions'
says out 'done: 2097152 of 2097152'
vd slots.qed
expect 0

"$VDCHECK" create -f qed -o cluster_size=64k,table_size=16 shared.qed 100G
for ((i = 0; i < 10; i++)); do
    "$VDCHECK" io -q -c "write 0x$(printf %x $((i << 33))) 64k" shared.qed
done
pattern '\0\0\x11\0\0\0\0\0' 17
for ((i = 0; i < 10; i++)); do
    dd if=pattern of=shared.qed bs=64k seek=$((18 + 17 * i)) conv=notrunc status=none
done
vd shared.qed
expect 4
says out 'DAMAGED: 1310719 corruptions'

# ---- many entries past the end in a table as long as QEMU's runs, and one leaked cluster: each is done after a look
"$VDCHECK" create -f qed -o cluster_size=1M,table_size=16 run.qed 1T
"$VDCHECK" io -q -c 'write 0 64k' run.qed
table=$(($(peek run.qed 0x100000) >> 20))
pattern '\1\0\0\0\0\0\0\0' 21
dd if=pattern of=run.qed bs=1M seek=$table conv=notrunc status=none
pattern '\0\0\0\0\1\0\0\0' 17
dd if=pattern of=run.qed bs=1M seek=$((table + 15)) conv=notrunc status=none
run timeout -k 1 60 "$VDCHECK" run.qed
expect 4
says out '131072 corruptions, 1 leaked cluster'

# ---- a lost table behind a long stretch of zeroes that were really written: it is found, and nothing is cut off
"$VDCHECK" create -f qed -o cluster_size=1M,table_size=16 behind.qed 100G
"$VDCHECK" io -q -c 'write -P 0 0 80M' -c 'write -P 0x5a 200M 1M' behind.qed
dd if=/dev/zero of=zeroed bs=1M count=80 status=none
table=$(($(peek behind.qed 0x100000) >> 20))
# The table moves to the end of the file, behind its data.
end=$(($(size_of behind.qed) >> 20))
dd if=behind.qed of=table bs=1M skip=$table count=16 status=none
dd if=table of=behind.qed bs=1M seek=$end conv=notrunc status=none
dd if=zeroed of=behind.qed bs=1M seek=$table count=16 conv=notrunc status=none
dd if=zeroed of=behind.qed bs=1M seek=$((table - 1)) count=1 conv=notrunc status=none
poke behind.qed 0x100000 $((end << 20))
vd io -r -q -c 'read -P 0x5a 200M 1M' behind.qed
expect 0
poke behind.qed 0x100000 0
cp behind.qed before
vd --repair=leaks behind.qed
expect 4
says out qed.orphan-l2-table
same behind.qed before
rm -f behind.qed before zeroed table
finish
