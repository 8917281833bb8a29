#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images that QEMU makes and writes, read and checked by vdcheck: in every geometry that QEMU can open, with backing
# files, and after a QEMU that was killed.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/functions.sh"

# write_all FILE CLUSTER_SIZE COVERAGE TABLE_SIZE [PATTERN OF THE BASE, OPTIONS OF CREATE]
write_all()
{
    local file=$1 c=$2 cover=$3 size=$(($3 + 16 * $2)) grow=() rest=${5-0}

    full_size=$((size + 4 * c))
    # QEMU grows no disk into what its backing file has.
    [ $# -gt 4 ] && size=$full_size || grow=(-c "truncate $full_size")
    run qemu-img create -q -f qed -o "cluster_size=$c,table_size=$4" "${@:6}" "$file" $size
    expect 0
    qio -c "write -P 1 0 $((2 * c))" \
        -c "write -P 2 $((3 * c + 512)) 1024" \
        -c "write -P 3 $((6 * c - 512)) 1024" \
        -c "write -P 4 $((cover - 512)) 1024" \
        -c "write -z $((8 * c)) $((2 * c))" \
        -c "write -P 5 $((8 * c + 512)) 512" \
        -c "write -z $((10 * c + 512)) 1024" \
        -c "write -z $c $c" \
        -c "discard $((3 * c)) $c" \
        "${grow[@]}" \
        -c "write -P 7 $((full_size - c)) $c" \
        -c "write -z $((cover + 2 * c)) $c" \
        -c flush "$file"
    expect 0
    # QEMU fills up a zero cluster that is written in part from the backing file; what it has written we read.
    expected=(
        "1 0 $c" "0 $c $c" "2 $((3 * c + 512)) 1024" "3 $((6 * c - 512)) 1024" "4 $((cover - 512)) 1024"
        "$rest $((8 * c)) 512" "5 $((8 * c + 512)) 512" "$rest $((8 * c + 1024)) $((c - 1024))" "0 $((9 * c)) $c"
        "0 $((10 * c + 512)) 1024" "7 $((full_size - c)) $c" "0 $((cover + 2 * c)) $c")
}

# read_all FILE [PATTERN OF THE BASE]
read_all()
{
    local file=$1 e c=$cluster commands=() more

    more=("${2-0} $((2 * c)) $c" "${2-0} $((3 * c)) 512" "${2-0} $((10 * c)) 512")
    for e in "${expected[@]}" "${more[@]}"; do
        commands+=(-c "read -P $e")
    done
    qio -r "${commands[@]}" "$file"
    expect 0
    vd io -r -q "${commands[@]}" "$file"
    expect 0
}

# same_map FILE: where QEMU and vdcheck see data in the image itself
same_map()
{
    vd io -r -c map "$1"
    expect 0
    awk '$3 == "data" { print $1, $2 }' "$told/out" | guest_map >ours.map
    run qemu-img map -f qed --output=json "$1"
    expect 0
    sed -n 's/.*"start": \([0-9]*\), "length": \([0-9]*\), "depth": 0, .*"data": true.*/\1 \2/p' "$told/out" |
        guest_map >theirs.map
    [ -s theirs.map ] || fail "QEMU's map of $1 has no data"
    same ours.map theirs.map
}

# judge FILE
judge()
{
    local file=$1 allocated

    qemu_clean "$file"
    allocated=$(sed -n 's|^\([0-9]*\)/\([0-9]*\) =.*|\1 \2|p' "$told/out")
    vdcheck_clean "$file"
    vd --output=json "$file"
    expect 0
    says out "\"virtual_size\": $full_size"
    says out "\"total\": ${allocated#* }"
    says out "\"allocated\": ${allocated% *}"
    # an empty stretch of 4 GiB makes QEMU abort here
    [ "$cover" -ge $((4 << 30)) ] || same_map "$file"
    # all clusters have an owner: header, L1, two L2 tables, and the data that QEMU counts
    vd map --output=json "$file"
    expect 0
    lacks out '"leaked"'
    lacks out '"refs": 0'
    lacks out '"refs": 2'
    says out '"complete": true'
    data=$(awk '/"bytes":/ { n = $2 + 0 } /"kind": "data"/ { sum += n } END { printf "%d", sum }' "$told/out")
    [ "$data" -eq $((${allocated% *} * cluster)) ] || fail "the map has $data bytes of data"
    vd info --output=json "$file"
    expect 0
    says out "\"cluster-size\": $cluster"
    says out "\"table-size\": $table"
    vd salvage "$file" ours.raw
    expect 0
    run qemu-img convert -f qed -O raw "$file" theirs.raw
    expect 0
    same_guest raw ours.raw raw theirs.raw
    [ "$(size_of ours.raw)" -eq "$(size_of theirs.raw)" ] || fail "the copies have different sizes"
    # and vdcheck goes on writing where QEMU left off
    vd io -q -c "write -P 9 $((12 * cluster)) 512" -c "write -P 8 $((4 * cluster)) $cluster" "$file"
    expect 0
    qemu_clean "$file"
    qio -r -c "read -P 9 $((12 * cluster)) 512" -c "read -P 8 $((4 * cluster)) $cluster" "$file"
    expect 0
    rm -f ours.* theirs.*
}

# ---- every geometry
for bits in 12 13 14 15 16 17 18 19 20 21 22; do
    cluster=$((1 << bits))
    for table in 2 4 8 16; do
        qemu_can $cluster $table || continue
        cover=$(coverage $cluster $table)
        [ "$cover" -le $((4 << 40)) ] || continue      # a copy to raw would not fit into a file
        write_all a.qed $cluster "$cover" $table
        read_all a.qed
        judge a.qed
        rm a.qed
    done
done

# ---- backing files
for geometry in 4096.2 65536.4; do
    cluster=${geometry%.*} table=${geometry#*.}
    cover=$(coverage "$cluster" "$table")
    qemu-img create -q -f qed -o "cluster_size=$cluster,table_size=$table" base.qed $((cover + 20 * cluster))
    qemu-io -f qed -c "write -P 0xbb 0 $((16 * cluster))" base.qed >/dev/null
    qemu-img create -q -f raw base.raw $((16 * cluster + 512))
    qemu-io -f raw -c "write -P 0xbb 0 $((16 * cluster + 512))" base.raw >/dev/null
    for backing in 'raw base.raw' 'qed base.qed'; do
        write_all over.qed "$cluster" "$cover" "$table" 0xbb -F "${backing% *}" -b "${backing#* }"
        read_all over.qed 0xbb
        judge over.qed
        vd -c over.qed
        expect 0
        vd info over.qed
        matches out "backing-filename +${backing#* }"
        # another base, by QEMU; a grown disk; and its data taken over into the base
        cp over.qed other.qed
        run qemu-img rebase -u -F raw -b base.raw other.qed
        expect 0
        vdcheck_clean other.qed
        run qemu-img resize -f qed other.qed +$((10 * cluster))
        expect 0
        vdcheck_clean other.qed
        rm -f other.qed over.qed
    done
    rm -f base.*
done

# ---- a QEMU that was killed: without a backing file need-check says so, with one QEMU does not set it
mkfifo words
clean_up_more() { [ -z "${pid-}" ] || kill -KILL "$pid" 2>/dev/null; }
for backing in '' '-F raw -b base.raw'; do
    truncate -s 1G base.raw
    # shellcheck disable=SC2086 # options
    qemu-img create -q -f qed $backing k.qed 1G
    for ((i = 0; i < 5; i++)); do
        qemu-io -f qed k.qed <words >qio.out 2>&1 &
        pid=$!
        exec 3>words
        printf 'write -P %d %dM 1M\n' $((i + 1)) $((i * 2)) >&3
        wait_for 10 grep -q 'wrote' qio.out || fail "qemu-io did not write"
        kill -KILL "$pid"
        wait "$pid" 2>/dev/null
        pid=
        exec 3>&-
        vd k.qed
        if [ -z "$backing" ]; then
            expect 4
            says out qed.need-check-set
            lacks out 'corruption:'
            vd --exit-code=qemu k.qed
            expect 0
            qemu_clean k.qed           # which does not say anything of the flag
        else
            expect 0
        fi
        commands=()
        for ((j = 0; j <= i; j++)); do
            commands+=(-c "read -P $((j + 1)) $((j * 2))M 1M")
        done
        vd io -r -q "${commands[@]}" k.qed
        expect 0
        [ $((i % 2)) -eq 0 ] || continue
        vd --repair k.qed
        [ "$status" -eq 1 ] || [ "$status" -eq 0 ] || fail "status $status"
        vdcheck_clean k.qed
        qemu_clean k.qed
        qio -r "${commands[@]}" k.qed
        expect 0
    done
    rm -f k.qed*
done
finish
