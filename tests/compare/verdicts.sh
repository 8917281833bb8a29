#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What QEMU and vdcheck say of the same damage, before and after their repairs, against the table verdicts.txt, which
# also explains every difference. `verdicts.sh --print` prints the table as it is now.
#
# Three things hold for every row: after vdcheck's safe repair QEMU reads what it read before it (where it could not
# open the image: before the damage), wherever no finding names the range; a second repair changes nothing; and undo
# gives the damaged image back.
table=$(cd "${srcdir:-$(dirname "$0")/../..}" && pwd)/tests/compare/verdicts.txt
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/functions.sh"

# QEMU ends a loop of backing files where its descriptors end; what does not end at all, the kernel ends.
ulimit -n 200 -t 120

FS=$((12 * C))       # length of the example, in bytes

# A hole in a table is a finding of its own, so no copy makes one.
cp() { command cp --sparse=never "$@"; }

# The example, made by QEMU: an L2 table and three data clusters; and its small relatives.
qemu-img create -q -f qed plain.qed 8G
qemu-io -f qed -c 'write -P 1 0 64k' -c 'write -P 2 64k 64k' -c 'write -P 3 256M 64k' plain.qed >/dev/null
[ "$(peek plain.qed $L1) $(peek plain.qed $L2) $(size_of plain.qed)" = "$((L2)) $((5 * C)) $FS" ] || exit 99
"$VDCHECK" create -f qed base.qed 8G || exit 99
"$VDCHECK" io -q -c 'write -P 4 512M 64k' base.qed || exit 99
qemu-img create -q -f qed -F qed -b base.qed over.qed 8G
qemu-io -f qed -c 'write -P 1 0 64k' -c 'write -P 2 64k 64k' -c 'write -P 3 256M 64k' over.qed >/dev/null

# two_header_clusters FILE: clusters of 4 KiB, tables of two, a header area of two; data as in the example
two_header_clusters()
{
    qemu-img create -q -f qed -o cluster_size=4k,table_size=2 "$1" 1M
    truncate -s 16k "$1"
    poke "$1" 12 2 4
    poke "$1" 40 8192
    qemu-io -f qed -c 'write -P 1 0 4k' -c 'write -P 2 4k 4k' "$1" >/dev/null
}

# damage RECIPE FILE: makes the damaged image; $whole is what it was before, "" where that does not exist; $reads says
# whether QEMU, where it opens the damaged image, finds the guest's data in it
damage()
{
    local recipe=$1 f=$2

    whole=plain.qed
    reads=yes
    cp plain.qed "$f"
    case $recipe in
    clean) ;;
    l2-entry-out-of-file) poke "$f" $((L2 + 8)) 0x7fff0000 ;;
    l2-entry-out-of-file.need-check) poke "$f" $((L2 + 16)) 0x7fff0000; poke "$f" 16 2 ;;
    l2-entry-out-of-file.need-check-orphan) poke "$f" $((L2 + 8)) 0x7fff0000; poke "$f" 16 2 ;;
    l2-entry-misaligned) poke "$f" $((L2 + 8)) $((10 * C + 0x200)) ;;
    l2-entry-reserved) poke "$f" $((L2 + 16)) 3 ;;
    l2-entry-in-header)
        two_header_clusters "$f"
        cp "$f" two.qed
        whole=two.qed
        poke "$f" $(($(peek "$f" 8192) + 8)) 4096
        ;;
    l2-entry-shared) poke "$f" $((L2 + 8)) $((5 * C)) ;;
    l2-entry-shared.need-check) poke "$f" $((L2 + 8)) $((5 * C)); poke "$f" 16 2 ;;
    l2-entry-into-l1) poke "$f" $((L2 + 16)) $L1 ;;
    l2-entry-into-l2) poke "$f" $((L2 + 16)) $L2 ;;
    l1-entry-shared) poke "$f" $((L1 + 16)) $L2 ;;
    l1-entry-into-l1) poke "$f" $((L1 + 8)) $L1 ;;
    l1-entry-overlap) poke "$f" $((L1 + 8)) $((L2 - C)) ;;
    l1-entry-misaligned) poke "$f" $((L1 + 16)) 1 ;;
    l1-entry-reserved) poke "$f" "$L1" $((L2 + 0x200)) ;;
    l1-entry-out-of-file) poke "$f" "$L1" 0x7fff0000 ;;
    l1-entry-straddles-eof) poke "$f" $((L1 + 16)) $((FS - C)) ;;
    l1-entry-in-header)
        two_header_clusters "$f"
        cp "$f" two.qed
        whole=two.qed
        poke "$f" $((8192 + 8)) 4096
        ;;
    l1-entry-beyond-size) truncate -s +$((4 * C)) "$f"; poke "$f" $((L1 + 8 * 100)) $FS ;;
    cluster-leaked) poke "$f" $((L2 + 8)) 0 ;;
    cluster-leaked.need-check) poke "$f" $((L2 + 8)) 0; poke "$f" 16 2 ;;
    tail-leaked) truncate -s +$((3 * C)) "$f" ;;
    tail-partial) truncate -s +100 "$f" ;;
    l2-entry-partial-tail) truncate -s -4096 "$f" ;;
    data-tail-short) truncate -s -100 "$f" ;;
    need-check-set) poke "$f" 16 2 ;;
    feature-unknown) poke "$f" 16 8 ;;
    compat-unknown) poke "$f" 24 $((1 << 40)) ;;
    autoclear-unknown) poke "$f" 32 5 ;;
    header-truncated) truncate -s 40 "$f" ;;
    header-magic) poke "$f" 3 1 1 ;;
    header-size-zero) poke "$f" 12 0 4 ;;
    header-size-zero.l1-zero) poke "$f" 12 0 4; poke "$f" 40 0; reads=no ;;
    header-size-overlap) poke "$f" 12 2 4 ;;
    header-size-overlap.5) poke "$f" 12 5 4 ;;
    header-size-overlap.0xffff) poke "$f" 12 0xffff 4 ;;
    header-size-out-of-file) poke "$f" 12 0x1000 4 ;;
    table-size-invalid.*) poke "$f" 8 "${recipe##*.}" 4 ;;
    table-size-one) poke "$f" 8 1 4 ;;
    table-size-one.created) rm "$f"; qemu-img create -q -f qed -o table_size=1 "$f" 1G; whole= ;;
    geometry-overflow) poke "$f" 4 $((1 << 22)) 4 ;;
    geometry-overflow.created)
        rm "$f"
        "$VDCHECK" create -f qed -o cluster_size=4M,table_size=4 "$f" 1G
        "$VDCHECK" io -q -c 'write -P 1 0 64k' "$f"
        whole=
        ;;
    cluster-size-invalid.*) poke "$f" 4 "${recipe##*.}" 4 ;;
    cluster-size-suspect) poke "$f" 4 32768 4 ;;
    image-size-invalid.1000) poke "$f" 48 1000 ;;
    image-size-invalid.2^63) poke "$f" 48 $((1 << 63)) ;;
    image-size-invalid.64T+512) poke "$f" 48 $(((64 << 40) + 512)) ;;
    image-size-64T) poke "$f" 48 $((64 << 40)) ;;
    image-size-short) poke "$f" 48 65536 ;;
    l1-offset-misaligned) poke "$f" 40 $((C + 512)) ;;
    l1-offset-in-header) poke "$f" 40 0 ;;
    l1-offset-out-of-file) poke "$f" 40 $((1 << 40)) ;;
    l1-offset-out-of-file.end) poke "$f" 40 $((FS - C)) ;;
    l1-offset-out-of-file.wraps) poke "$f" 40 "-$C" ;;
    l1-offset-out-of-file.truncated) truncate -s $((4 * C)) "$f" ;;
    backing-name-out-of-header) poke "$f" 16 1; poke "$f" 56 65530 4; poke "$f" 60 8 4 ;;
    backing-name-empty) poke "$f" 16 1 ;;
    backing-fmt-without-backing) poke "$f" 16 4 ;;
    backing-name-nul) cp over.qed "$f"; poke "$f" 60 12 4; whole=over.qed ;;
    backing-name-too-long) cp over.qed "$f"; poke "$f" 60 4096 4; whole= ;;
    backing-missing) cp over.qed "$f"; printf 'gone.qed' | dd of="$f" bs=1 seek=64 conv=notrunc status=none; whole= ;;
    backing-larger) cp over.qed "$f"; poke "$f" 48 $((1 << 30)); cp "$f" larger.qed; whole=larger.qed ;;
    backing-smaller) cp over.qed "$f"; poke "$f" 48 $((16 << 30)); cp "$f" smaller.qed; whole=smaller.qed ;;
    backing-loop)
        cp over.qed "$f"
        printf loop.qed | dd of="$f" bs=1 seek=64 conv=notrunc status=none
        cp "$f" loop.qed
        whole=
        ;;
    l2-entry-out-of-file.backing) cp over.qed "$f"; poke "$f" $((L2 + 8)) 0x7fff0000; whole=over.qed ;;
    l2-table-garbage) head -c $((4 * C)) /dev/zero | tr '\0' U | dd of="$f" bs="$C" seek=6 conv=notrunc status=none ;;
    l2-table-empty) head -c $((4 * C)) /dev/zero | dd of="$f" bs="$C" seek=6 conv=notrunc status=none ;;
    l2-entry-beyond-size)
        rm "$f"
        qemu-img create -q -f qed "$f" 1M
        qemu-io -f qed -c 'write -P 1 0 64k' "$f" >/dev/null
        cp "$f" one.qed
        whole=one.qed
        poke "$f" $(($(peek "$f" "$L1") + 8 * 100)) "$(size_of "$f")"
        truncate -s +64k "$f"
        ;;
    orphan-l2-table) poke "$f" "$L1" 0 ;;
    sparse-metadata) fallocate -p -o $((L2)) -l $((4 * C)) "$f" 2>/dev/null || skip "no holes on this file system" ;;
    false-leaks)
        rm "$f"
        qemu-img create -q -f qed -o cluster_size=4k,table_size=2 "$f" 32M
        qemu-io -f qed -c 'write -P 1 0 32M' "$f" >/dev/null
        cp "$f" many.qed
        whole=many.qed
        ;;
    l2-run-overrun)
        rm "$f"
        qemu-img create -q -f qed -o cluster_size=4k,table_size=16 "$f" 32M
        qemu-io -f qed -c "write -P 2 $((4095 * 4))k 4k" "$f" >/dev/null
        cp "$f" run.qed
        qemu-io -f qed -c "write -P 1 0 $((4095 * 4))k" "$f" >/dev/null
        whole=
        ;;
    *) fail "no recipe for $recipe" ;;
    esac
}

# theirs FILE [OPTIONS]: QEMU's verdict as "2: 1 corrupt 1 leaked", in $verdict
theirs()
{
    local said

    run qemu-img check -f qed --output=json "${@:2}" "$1"
    said=$(<"$told/out")
    verdict="$status:"
    if [[ $said != *'"check-errors"'* ]]; then
        verdict+=" does not open"
        return
    fi
    [[ $said =~ '"corruptions": '([0-9]+) ]] && verdict+=" ${BASH_REMATCH[1]} corrupt"
    [[ $said =~ '"leaks": '([0-9]+) ]] && verdict+=" ${BASH_REMATCH[1]} leaked"
}

# ours FILE REPORT [OPTION]: vdcheck's, as "4 damaged: l2-entry-out-of-file cluster-leaked*2", in $verdict; ids of QED
# without "qed.". Rows about backing files are checked with their chain.
ours()
{
    local chain=()

    case $recipe in
    backing-larger | backing-smaller | backing-loop | backing-missing) chain=(--backing-chain) ;;
    esac
    vd --output=json "${chain[@]}" "${@:3}" "$1"
    verdict=$(awk -F'"' -v status="$status" -v copy="$2" '
        { print >copy }
        /^      "status":/ { if (word == "" || word == "clean") word = $4 }
        /^          "id":/ { id = $4; sub(/^qed\./, "", id) }
        /^          "count":/ { n = $3; gsub(/[^0-9]/, "", n); ids = ids " " id (n > 1 ? "*" n : "") }
        END { print status " " word (ids == "" ? "" : ":" ids) }' "$told/out")
}

# named REPORT...: the guest ranges that findings name, as "start end"; a range without a length is all behind it
named()
{
    awk '
        function number(s) { sub(/.*: /, "", s); sub(/,.*/, "", s); return s }
        function tell() { if (at != "null" && at != "") print at, (len == "" ? 2 ^ 62 : at + len)
                          if (other != "") print other, (len == "" ? 2 ^ 62 : other + len)
                          at = len = other = "" }
        /"host_offset":/ { tell() }
        /"guest_offset":/ { at = number($0) }
        /"guest_bytes":/ { len = number($0) }
        /"other_guest_offset":/ { other = number($0) }
        END { tell() }' "$@"
}

# places IMAGE...: one offset in each 4 KiB where the guest has data in one of the images and no finding names it
places()
{
    local f

    for f in "$@"; do
        qemu-img map -f qed --output=json "$f" 2>/dev/null
    done |
        awk '
            FILENAME == "ranges" { from[++n] = $1; to[n] = $2; next }
            match($0, /"start": [0-9]+/) { start = substr($0, RSTART + 9, RLENGTH - 9) + 0 }
            match($0, /"length": [0-9]+/) { end = start + substr($0, RSTART + 10, RLENGTH - 10) }
            /"data": true/ {
                for (; start < end; start += 4096) {
                    for (i = 1; i <= n && (from[i] >= start + 512 || to[i] <= start); i++)
                        ;
                    if (i > n && !seen[start]++)
                        printf "%d\n", start
                }
            }' ranges -
}

# bytes_of IMAGE READ...: the guest's bytes as QEMU's commands read them, one line with the offset for each 16; none where
# it cannot
bytes_of()
{
    qemu-io -r -f qed "${@:2}" "$1" 2>&1 | grep '^[0-9a-f]*:' | sort
}

# reads_on BEFORE REPAIRED: QEMU reads the same of both wherever it could read before and no finding names the range.
# The places that are looked at are those where any of the two, or the sound image, has data.
reads_on()
{
    local wants

    mapfile -t wants < <(places "$1" "$2" ${whole:+"$whole"})
    if [ ${#wants[@]} -gt 0 ]; then
        wants=("${wants[@]/#/-cread -v }")
        bytes_of "$1" "${wants[@]/%/ 512}" >before.bytes
        bytes_of "$2" "${wants[@]/%/ 512}" >after.bytes
        comm -23 before.bytes after.bytes >lost.bytes
        [ ! -s lost.bytes ] ||
            fail "$recipe: the guest's bytes read otherwise after the repair: $(head -n 1 lost.bytes)"
    fi
    [ -s ranges ] || same_guest qed "$1" qed "$2"
}

# repaired: what holds of ours.qed, which vdcheck's repair has changed; $q and $x are QEMU's verdicts before and after
repaired()
{
    named check.json repair.json >ranges
    if [[ $x != *'does not open' ]]; then
        if [ "$reads" = yes ] && [[ $q != *'does not open' ]]; then
            reads_on before.qed ours.qed
        elif [ -n "$whole" ]; then
            reads_on "$whole" ours.qed
        fi
    fi
    cp ours.qed once.qed
    vd --repair=safe ours.qed
    same ours.qed once.qed
    vd undo ours.qed
    expect 0
    same ours.qed before.qed
}

# judge RECIPE: the row as it is now, without the explanation, in $row. Where a repair wrote nothing, the verdict after
# it is the one before it.
judge()
{
    local recipe=$1 q r v w x

    rm -f -- *.qed.vdcheck-undo* before.qed theirs.qed ours.qed
    damage "$recipe" before.qed
    # holes and all: where a table has one is a finding
    command cp --sparse=auto before.qed theirs.qed
    command cp --sparse=auto before.qed ours.qed
    theirs ours.qed
    q=$verdict r=$verdict x=$verdict
    ours ours.qed check.json
    v=$verdict w=$verdict
    same ours.qed before.qed
    theirs theirs.qed -r all
    if ! cmp -s theirs.qed before.qed; then
        theirs theirs.qed
        r=$verdict
    fi
    ours ours.qed repair.json --repair=safe
    if ! cmp -s ours.qed before.qed; then
        ours ours.qed again.json
        w=$verdict
        theirs ours.qed
        x=$verdict
        repaired
    fi
    row="$recipe | $q | $r | $v | $w | $x"
}

if [ "${1-}" = --print ]; then
    grep '^#' "$table"
    while IFS='|' read -r recipe rest; do
        [[ $recipe == [a-z]* ]] || continue
        judge "${recipe// /}"
        printf '%s | %s\n' "$row" "${rest##*| }"
    done <"$table" | column -t -s '|' -o '|' | sed 's/ *$//'
    exit
fi

# The table has a row for each recipe, and each row says why the two differ.
shopt -s extglob
rows=0
while IFS='|' read -r recipe q r v w x why; do
    [[ $recipe == [a-z]* ]] || continue
    rows=$((rows + 1))
    expected="$recipe|$q|$r|$v|$w|$x"
    expected=${expected//*( )|*( )/ | }
    failed=$failures
    judge "${recipe// /}"
    if [ "${row%%*( )}" != "${expected%%*( )}" ]; then
        run :
        fail "the verdicts are not those of the table
    table: $expected
    now:   $row"
    fi
    [ "$failures" -eq "$failed" ] || echo "    (in the row $recipe)"
    [ -n "${why// /}" ] || fail "the row $recipe does not say why"
done <"$table"
[ $rows -gt 0 ] || fail "no table"
finish
