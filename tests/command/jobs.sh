#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Several images at once: what is told stays in the order in which they were named, and is what one job tells.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample base.qed
kinds=(cp leaking out_of_file dirty tail_leaking shared)
names=()
for ((i = 0; i < 20; i++)); do
    ${kinds[i % 6]} base.qed "i$i.qed"
    names+=("i$i.qed")
done
# the first is slow to check, and so is told last by who does not wait
"$VDCHECK" io -q -c 'write -P 9 1G 200M' i0.qed

vd "${names[@]}"
expect 4
cp "$told/out" one
for j in 1 2 4 20 100; do
    vd -j $j "${names[@]}"
    expect 4
    same "$told/out" one
done
for ((k = 0; k < 5; k++)); do
    vd --jobs=4 --throttle=iops=200 "${names[@]}"
    same "$told/out" one
done
vd -j 4 --output=json "${names[@]}"
expect 4
[ "$(grep -o '"path": "i[0-9]*' "$told/out" | tr -dc '0-9\n' | tr '\n' ' ')" = "$(echo {0..19}) " ] || fail "order in JSON"
vd -j 4 --output=qemu-json "${names[@]}"
[ "$(grep -o '"filename": "i[0-9]*' "$told/out" | tr -dc '0-9\n' | tr '\n' ' ')" = "$(echo {0..19}) " ] ||
    fail "order in QEMU's JSON"
vd -j 4 -q "${names[@]}" nosuch
expect 12

# repairs at once, each with an undo file of its own; the same image named twice is refused once, never repaired twice
mkdir before
cp -- *.qed before/
vd -j 4 --repair=all "${names[@]}"
expect 1
vd -j 4 "${names[@]}"
expect 0
for n in "${names[@]}"; do
    if [ -e "$n.vdcheck-undo" ]; then
        vd undo "$n"
        expect 0
    fi
    same "$n" "before/$n"
done
leaking base.qed twice.qed
for ((k = 0; k < 10; k++)); do
    cp before/i1.qed twice.qed
    rm -f twice.qed.*
    vd -j 2 --repair twice.qed twice.qed
    # Of two that take the locks at once both may give way; never do both repair.
    if [ "$status" -eq 64 ]; then
        cmp -s before/i1.qed twice.qed || fail "nobody repaired it, and it has changed"
        [ -z "$(ls twice.qed.* 2>/dev/null)" ] || fail "files: $(ls twice.qed.*)"
        continue
    fi
    [ "$status" -eq 1 ] || [ "$status" -eq 65 ] || fail "status $status of an image named twice"
    [ "$(ls twice.qed.*)" = twice.qed.vdcheck-undo ] || fail "files: $(ls twice.qed.*)"
    vd twice.qed
    expect 0
done
finish
