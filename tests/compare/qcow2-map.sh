#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `map` says that a snapshot or bitmap holds alone is what the file has less of once QEMU has deleted it.
# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

for tool in qemu-img qemu-io jq; do
    has_command $tool || skip "no $tool"
done

# used FILE: bytes of clusters that are named, without the snapshot table and the bitmap directory, which QEMU writes anew
used()
{
    "$VDCHECK" map --output=json "$1" | jq '[.runs[] | select(.kind != "unused" and .kind != "snapshot table" and
        .kind != "bitmap directory") | .bytes] | add'
}

# holders FILE: "what name bytes" for each
holders()
{
    "$VDCHECK" map --output=json "$1" | jq -r '.holders[] | "\(.what) \(.name) \(.alone_bytes)"'
}

# deletions FILE: each holder is deleted in a copy
deletions()
{
    local what name bytes before n=0

    before=$(used "$1")
    while read -r what name bytes; do
        cp "$1" copy
        if [ "$what" = bitmap ]; then
            run qemu-img bitmap --remove copy "$name"
        else
            run qemu-img snapshot -d "$name" copy
        fi
        expect 0
        [ $((before - $(used copy))) -eq "$bytes" ] ||
            fail "$what $name of $1: $bytes bytes said, $((before - $(used copy))) gone"
        n=$((n + 1))
    done < <(holders "$1")
    [ "$n" -eq "$2" ] || fail "$1: $n holders, expected $2"
}

run qemu-img create -f qcow2 a.qcow2 64M
run qemu-io -c 'write -P 1 0 4M' a.qcow2
run qemu-img snapshot -c one a.qcow2
run qemu-io -c 'write -P 2 1M 2M' a.qcow2
run qemu-img snapshot -c two a.qcow2
run qemu-img snapshot -c same a.qcow2
run qemu-io -c 'write -P 3 2M 3M' -c 'discard 0 512k' a.qcow2
run qemu-img bitmap --add --enable a.qcow2 b0
run qemu-io -c 'write -P 4 8M 1M' a.qcow2
run qemu-img bitmap --add --enable -g 512 a.qcow2 b1
run qemu-io -c 'write -P 5 9M 64k' a.qcow2
deletions a.qcow2 5
# of two snapshots with everything in common neither has data of its own
held=$(holders a.qcow2)
[[ $held == *"snapshot two 65536"* ]] || fail "not so: snapshot two 65536"
[[ $held == *"snapshot same 65536"* ]] || fail "not so: snapshot same 65536"

# compressed data: one cluster of the file holds several, of one snapshot or of more
run qemu-img create -f qcow2 -o cluster_size=4k b.qcow2 8M
run qemu-io -c 'write -c -P 1 0 4k' -c 'write -c -P 2 4k 4k' b.qcow2
run qemu-img snapshot -c one b.qcow2
run qemu-io -c 'write -c -P 3 8k 4k' -c 'write -P 4 0 8k' -c 'write -P 5 3M 1M' b.qcow2
run qemu-img snapshot -c two b.qcow2
run qemu-io -c 'write -P 6 2M 2M' b.qcow2
deletions b.qcow2 2

# subclusters
run qemu-img create -f qcow2 -o extended_l2=on,cluster_size=16k c.qcow2 256M
run qemu-io -c 'write -P 1 100M 100k' c.qcow2
run qemu-img snapshot -c one c.qcow2
run qemu-io -c 'write -P 2 100M 512' -c 'write -P 2 1M 512' c.qcow2
run qemu-img snapshot -c two c.qcow2
run qemu-io -c 'write -P 2 100M 1M' c.qcow2
deletions c.qcow2 2

# a damaged image says nothing of it, and a clean one without them has none
cp a.qcow2 damaged.qcow2
poke damaged.qcow2 $((0x30000)) 0x40200
"$VDCHECK" map --output=json damaged.qcow2 >out.json
jq -e '.holders == null' <out.json >/dev/null || fail "a damaged image: $(jq -c .holders <out.json)"
run qemu-img create -f qcow2 e.qcow2 64M
deletions e.qcow2 0
