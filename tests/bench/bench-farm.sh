#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# An audit of a farm of small images beside qemu-img over the same files; what it counts is compared with what the
# generator put in. Exit status 1: they differ.
set -euo pipefail
export LC_ALL=C

if [ $# -ne 2 ] && [ $# -ne 3 ]; then
    cat >&2 <<'END'
usage: bench-farm.sh VDCHECK PROGRAMS [WORKDIR]

PROGRAMS is the folder of measure. The farm goes to a new folder in WORKDIR (or $TMPDIR or /tmp), which is removed at the
end; ten thousand images need about 2 GiB there.

BENCH_FARM        how many images (10000); 0: none of this
BENCH_FARM_RUNS   rounds of audits and of qemu-img (3)
FARM_DAMAGE, FARM_CHAINS  shares in percent, see gen-farm.sh
END
    exit 2
fi
vdcheck=$1
measure=$2/measure
images=${BENCH_FARM:-10000}
runs=${BENCH_FARM_RUNS:-3}
failed=0
[ "$images" -gt 0 ] || exit 0

work=$(mktemp -d "${3:-${TMPDIR:-/tmp}}/vdcheck-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

wrong()
{
    echo "WRONG: $*" >&2
    failed=1
}

# run NAME STATUS COMMAND...: adds "wall cpu rss status" to NAME.runs; STATUS is a pattern
run()
{
    local name=$1 expected=$2 line

    shift 2
    line=$("$measure" -o "$work/$name.out" "$@")
    echo "$line" >>"$work/$name.runs"
    [[ ${line##* } =~ ^($expected)$ ]] || wrong "$*: exit status ${line##* }"
}

# median NAME COLUMN
median()
{
    awk -v c="$2" '{ print $c }' "$work/$1.runs" | sort -g |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# row WHAT NAME
row()
{
    printf '%-34s %9.3f %9.3f' "$1" "$(median "$2" 1)" "$(median "$2" 2)"
    [ ! -e "$work/qemu.runs" ] || printf ' %10.4f' "$(awk -v a="$(median "$2" 1)" -v b="$(median qemu 1)" 'BEGIN { print a / b }')"
    echo
}

# peak COMMAND...: MiB of the process and its children together, as seen every moment; pages that they share count once
peak()
{
    local pid most=0 sum

    "$@" >/dev/null 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        # shellcheck disable=SC2046,SC2002 # numbers; several files, of which some are gone
        sum=$(cat $(printf '/proc/%s/smaps_rollup ' $pid $(cat /proc/$pid/task/$pid/children 2>/dev/null)) 2>/dev/null |
            awk '/^Pss:/ { n += $2 } END { print n + 0 }')
        [ "$sum" -le "$most" ] || most=$sum
        sleep 0.02
    done
    wait $pid || true
    echo "$((most / 1024))"
}

printf '\na farm of %s images: ' "$images"
bash "$(dirname "$0")/gen-farm.sh" "$vdcheck" "$work/farm" "$images" | tee "$work/truth.json"
sync -f "$work/farm"

# Workers are the last whom the processor serves; so is the rival, lest others on the machine decide.
audit=(nice -n 19 "$vdcheck" audit -j 2 --no-progress "--db=$work/db")
# shellcheck disable=SC2016 # of the inner shell
rival=(nice -n 19 sh -c 'find "$0" -type f -print0 | xargs -0 -P2 -n1 qemu-img check --output=json' "$work/farm")
load=$(cut -d ' ' -f 1 /proc/loadavg)
run warm '4' "${audit[@]}" "$work/farm"
for ((round = 0; round < runs; round++)); do
    run full '4' "${audit[@]}" --full "$work/farm"
    ! command -v qemu-img >/dev/null || run qemu '123' "${rival[@]}"
    run unchanged '4' "${audit[@]}" "$work/farm"
    run html '0' "$vdcheck" report --exit-zero --output=html "$work/db"
done
grep -q "^$images checked, 0 unchanged" "$work/full.out" || wrong "$(tail -n 1 "$work/full.out")"
grep -q "^0 checked, $images unchanged" "$work/unchanged.out" || wrong "$(tail -n 1 "$work/unchanged.out")"
"$vdcheck" report --exit-zero --output=csv "$work/db" >"$work/csv"
for status in clean leaking dirty damaged; do
    found=$(cut -d, -f3 "$work/csv" | grep -cx $status || true)
    grep -q "\"$status\": ${found}[,}]" "$work/truth.json" || wrong "$found images are $status"
done

printf '%-34s %9s %9s %10s\n' '' 'wall s' 'cpu s' '/ qemu-img'
row 'audit -j 2, all of it' full
row 'audit, nothing has changed' unchanged
row 'report --output=html' html
if [ -e "$work/qemu.runs" ]; then
    row 'xargs -P2 -n1 qemu-img check' qemu
else
    echo 'qemu-img is not installed: skipped'
fi
printf 'peak memory of the whole audit: %s MiB\n' "$(peak "${audit[@]}" --full "$work/farm")"
printf 'page of --output=html: %s KiB\n' "$(($(stat -c %s "$work/html.out") / 1024))"
printf 'load of the machine, before and after: %s, %s\n' "$load" "$(cut -d ' ' -f 1 /proc/loadavg)"
[ $failed -eq 0 ] || echo 'bench: at least one answer was wrong, see above' >&2
exit $failed
