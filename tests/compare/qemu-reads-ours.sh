#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images that vdcheck makes and writes, read by QEMU: in every geometry, with every kind of backing file. What QEMU
# cannot open vdcheck must handle alone.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/functions.sh"

# write_all FILE CLUSTER_SIZE COVERAGE: whole clusters, parts of them, across clusters and tables, zeroes of all kinds,
# and a disk that grows; what must be read then goes to $expected as "pattern offset length".
write_all()
{
    local file=$1 c=$2 cover=$3 size=$(($3 + 16 * $2)) i commands=()

    "$VDCHECK" create -f qed -o "cluster_size=$c,table_size=$4" "${@:5}" "$file" $size || fail "create"
    vd io -q -c "write -P 1 0 $((2 * c))" \
        -c "write -P 2 $((3 * c + 777)) 1000" \
        -c "write -P 3 $((6 * c - 100)) 200" \
        -c "write -P 4 $((cover - 512)) 1024" \
        -c "zero $((8 * c)) $((2 * c))" \
        -c "write -P 5 $((8 * c + 512)) 512" \
        -c "zero $((10 * c + 100)) 300" \
        -c "zero $c $c" \
        -c "write -P 6 $((c + 1)) 1" \
        -c "truncate $((size + 4 * c))" \
        -c "write -P 7 $((size + 3 * c)) $c" \
        -c "zero $((cover + 2 * c)) $c" "$file"
    expect 0
    expected=(
        "1 0 $c" "0 $c 1" "6 $((c + 1)) 1" "0 $((c + 2)) $((c - 2))"
        "2 $((3 * c + 777)) 1000" "3 $((6 * c - 100)) 200" "4 $((cover - 512)) 1024"
        "0 $((8 * c)) 512" "5 $((8 * c + 512)) 512" "0 $((8 * c + 1024)) $((2 * c - 1024))"
        "0 $((10 * c + 100)) 300" "7 $((size + 3 * c)) $c" "0 $((cover + 2 * c)) $c")
    full_size=$((size + 4 * c))
}

# read_all FILE [PATTERN OF THE BASE]: both programs read what is expected, and the base where nothing was written
read_all()
{
    local file=$1 e c=$cluster commands=() more=()

    [ $# -lt 2 ] || more=("$2 $((2 * c)) $c" "$2 $((3 * c)) 777" "$2 $((6 * c - 200)) 100" "$2 $((10 * c)) 100"
        "$2 $((10 * c + 400)) 100")
    [ $# -ge 2 ] || more=("0 $((2 * c)) $c" "0 $((3 * c)) 777" "0 $((10 * c)) $((2 * c))" "0 $((cover + 512)) 512")
    for e in "${expected[@]}" "${more[@]}"; do
        commands+=(-c "read -P $e")
    done
    vd io -r -q "${commands[@]}" "$file"
    expect 0
    [ "$qemu" = no ] && return
    qio -r "${commands[@]}" "$file"
    expect 0
    lacks out 'Pattern verification failed'
}

# judge FILE: what both programs say of it
judge()
{
    local file=$1

    vdcheck_clean "$file"
    vd salvage "$file" ours.raw
    expect 0
    if [ "$qemu" = no ]; then
        qemu_check "$file"
        expect 1        # should QEMU learn to open it, the table of geometries above is wrong
        rm -f ours.raw
        return
    fi
    qemu_clean "$file"
    run qemu-img info "$file"
    expect 0
    says out "($full_size bytes)"
    says out "cluster_size: $cluster"
    run qemu-img convert -f qed -O raw "$file" theirs.raw
    expect 0
    same_guest raw ours.raw raw theirs.raw
    # QEMU's block status of QED counts bytes in 32 bits and aborts where an empty stretch has 4 GiB or more.
    [ "$cover" -ge $((4 << 30)) ] || same_guest qed "$file" raw ours.raw
    [ "$(size_of ours.raw)" -eq "$(size_of theirs.raw)" ] || fail "the copies have different sizes"
    vd salvage -O qed "$file" ours.qed
    expect 0
    run qemu-img convert -f qed -O raw ours.qed ours2.raw
    expect 0
    same_guest raw ours2.raw raw theirs.raw
    qemu_clean ours.qed
    # and QEMU goes on writing where vdcheck left off
    qio -c "write -P 9 $((12 * cluster)) 512" -c "write -P 8 $((4 * cluster)) $cluster" "$file"
    expect 0
    vdcheck_clean "$file"
    vd io -r -q -c "read -P 9 $((12 * cluster)) 512" -c "read -P 8 $((4 * cluster)) $cluster" "$file"
    expect 0
    rm -f ours.* theirs.*
}

# ---- every geometry, without a backing file
for bits in 12 13 14 15 16 17 18 19 20 21 22 26; do
    cluster=$((1 << bits))
    for table in 1 2 4 8 16; do
        # Above 2 MiB and for tables of one cluster one of each kind will do.
        case $bits.$table in
        22.2 | 22.4 | 26.1 | 26.4 | 12.1 | 16.1) ;;
        22.* | 26.* | *.1) continue ;;
        esac
        cover=$(coverage $cluster $table)
        qemu=no
        if qemu_can $cluster $table; then qemu=yes; fi
        # A copy to raw of an L2 table's reach and a bit must fit into a file.
        if [ "$cover" -gt $((4 << 40)) ]; then
            expected=()
            full_size=$((1 << 30))
            "$VDCHECK" create -f qed -o "cluster_size=$cluster,table_size=$table" a.qed 1G || fail create
            vd io -q -c 'write -P 1 0 512' -c 'write -P 2 1073741312 512' a.qed
            expect 0
            vd io -r -q -c 'read -P 1 0 512' -c 'read -P 0 512 1M' -c 'read -P 2 1073741312 512' a.qed
            expect 0
        else
            write_all a.qed $cluster "$cover" $table
            read_all a.qed
        fi
        judge a.qed
        rm a.qed
    done
done

# ---- backing files: raw declared and probed, QED under QED, and a base shorter than the overlay
for geometry in 4096.2 65536.4 1048576.16; do
    cluster=${geometry%.*} table=${geometry#*.} qemu=yes
    cover=$(coverage "$cluster" "$table")
    "$VDCHECK" create -f qed -o "cluster_size=$cluster,table_size=$table" base.qed $((cover + 20 * cluster))
    "$VDCHECK" io -q -c "write -P 0xbb 0 $((16 * cluster))" base.qed
    "$VDCHECK" create -f qed base-64k.qed $((12 * cluster))
    "$VDCHECK" io -q -c "write -P 0xbb 0 $((12 * cluster))" base-64k.qed
    "$VDCHECK" create -f raw base.raw $((20 * cluster))
    "$VDCHECK" io -q -f raw -c "write -P 0xbb 0 $((20 * cluster))" base.raw
    cp base.raw unaligned.raw
    truncate -s $((11 * cluster + 512)) unaligned.raw
    for backing in 'base.raw -F raw' base.raw base.qed 'base.qed -F qed' base-64k.qed 'unaligned.raw -F raw'; do
        # shellcheck disable=SC2086 # the format is a word of its own
        write_all over.qed "$cluster" "$cover" "$table" -b $backing
        read_all over.qed 0xbb
        # behind the end of a short base there are zeroes
        case $backing in
        unaligned* | base-64k*)
            vd io -r -q -c "read -P 0 $((13 * cluster)) $cluster" over.qed
            expect 0
            qio -r -c "read -P 0 $((13 * cluster)) $cluster" over.qed
            expect 0
            ;;
        esac
        run qemu-img info over.qed
        says out "backing file: ${backing%% *}"
        case $backing in
        *' -F raw') says out 'backing file format: raw' ;;
        *) lacks out 'backing file format: raw' ;;
        esac
        cp base.raw base.raw.before
        judge over.qed
        vd -c over.qed
        expect 0
        same base.raw base.raw.before
        rm over.qed
    done
    # three files deep
    "$VDCHECK" create -f qed -b base.raw -F raw mid.qed $((cover + 20 * cluster))
    write_all over.qed "$cluster" "$cover" "$table" -b mid.qed -F qed
    read_all over.qed 0xbb
    judge over.qed
    # QEMU commits the overlay into its base, and the base is sound
    qemu_clean over.qed
    cp over.qed kept.qed
    run qemu-img commit -f qed kept.qed
    expect 0
    vdcheck_clean mid.qed
    run qemu-img convert -f qed -O raw mid.qed mid.raw
    run qemu-img convert -f qed -O raw over.qed over.raw
    same_guest raw mid.raw raw over.raw
    rm -f ./*.qed ./*.raw*
done
finish
