#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# vdcheck, qemu-img check and a floor program side by side on large images: medians of alternating runs.
#
# Times depend on the machine and its load; the ratios of one run are what counts. A fast wrong answer does
# not count: what vdcheck reports is compared with what the generator put in. Exit status 1: they differ.

set -euo pipefail
export LC_ALL=C

usage()
{
    cat >&2 <<'END'
usage: bench.sh VDCHECK PROGRAMS [WORKDIR]

PROGRAMS is the folder of gen-FORMAT, floor-FORMAT and measure. The images go to a new folder in WORKDIR (or
$TMPDIR or /tmp), which is removed at the end; 1 TiB of guest needs about 900 MiB there.

BENCH_FORMATS     which formats (qed qcow2)

BENCH_SIZE        guest size of the large images (1T)
BENCH_RUNS        rounds over the large images (5)
BENCH_SLOW_RIVAL  not empty: qemu-img checks the qcow2 image in random order, too (minutes a round)
BENCH_SMALL_RUNS  rounds over the small image (200)
BENCH_LEAKS       leaks of the leaky image (1048576, or a sixteenth of the clusters where that is less)
END
    exit 2
}

[ $# -eq 2 ] || [ $# -eq 3 ] || usage
vdcheck=$1
programs=$2
measure=$programs/measure
formats=${BENCH_FORMATS:-qed qcow2}
size=${BENCH_SIZE:-1T}
runs=${BENCH_RUNS:-5}
small_runs=${BENCH_SMALL_RUNS:-200}
cluster_size=65536
failed=0

for program in "$vdcheck" "$measure" $(for f in $formats; do echo "$programs/gen-$f" "$programs/floor-$f"; done); do
    [ -x "$program" ] || { echo "bench: cannot run $program" >&2; exit 2; }
done
if command -v qemu-img >/dev/null; then has_qemu=true; else has_qemu=false; fi

umask 077
work=$(mktemp -d "${3:-${TMPDIR:-/tmp}}/vdcheck-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

wrong()
{
    echo "WRONG: $*" >&2
    failed=1
}

# json_number KEY FILE: the first number under that key; nothing where there is none.
json_number()
{
    tr -d ' \t\r\n' <"$2" | awk -v key="\"$1\":" '
        (i = index($0, key)) { s = substr($0, i + length(key)); sub(/[^0-9].*/, "", s); print s }'
}

# generate NAME OPTION...: NAME.$format, and in NAME.json what is in it.
generate()
{
    local name=$1
    shift
    "$gen" -c "$cluster_size" "$@" "$work/$name.$format" >"$work/$name.json"
    sync "$work/$name.$format"
    printf '%-8s %s\n' "$name" "$(cat "$work/$name.json")"
}

# program_command PROGRAM FILE: sets `command`.
program_command()
{
    case $1 in
    qemu-img)      command=(qemu-img check -f "$format" "$2") ;;
    vdcheck)       command=("$vdcheck" "$2") ;;
    vdcheck--map)  command=("$vdcheck" "--map=$work/map.sqlite" "$2") ;;
    vdcheck-json)  command=("$vdcheck" --output=json "$2") ;;
    vdcheck-repair) command=("$vdcheck" --repair "$2") ;;
    floor)         command=("$floor" "$2") ;;
    esac
}

# expected_status PROGRAM LEAKS: qemu-img sees false leaks in QED images above 4 GiB, so both of its answers pass.
expected_status()
{
    case $1 in
    qemu-img)       [ "$format" = qed ] && echo '0|3' || { [ "$2" -eq 0 ] && echo 0 || echo 3; } ;;
    vdcheck-repair) [ "$2" -eq 0 ] && echo 0 || echo 1 ;;
    vdcheck*)       [ "$2" -eq 0 ] && echo 0 || echo 4 ;;
    *)              echo 0 ;;
    esac
}

# run NAME PROGRAM [FILE]: adds "wall cpu rss status" to NAME.PROGRAM.runs; NAME.PROGRAM.out has the output.
run()
{
    local name=$1 program=$2 file=${3:-$work/$1.$format} out=$work/$1.$2.out line status expected
    local command
    program_command "$program" "$file"
    rm -f "$work/map.sqlite"
    line=$("$measure" -o "$out" "${command[@]}")
    echo "$line" >>"$work/$name.$program.runs"
    status=${line##* }
    expected=$(expected_status "$program" "$(json_number leaks "$work/$name.json")")
    if [[ ! $status =~ ^($expected)$ ]] && [ ! -e "$out.told" ]; then
        wrong "${command[*]}: exit status $status, not $expected"
        tail -n 5 "$out" >&2
        touch "$out.told"
    fi
}

# median NAME PROGRAM COLUMN: of all runs so far; 0 where there were none.
median()
{
    [ -e "$work/$1.$2.runs" ] || { echo 0; return; }
    awk -v c="$3" '{ print $c }' "$work/$1.$2.runs" | sort -g |
        awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# ratio A B
ratio()
{
    awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.4g", a / b; else printf "-" }'
}

# compare NAME WHAT KEY EXPECTED JSON-FILE
compare()
{
    local seen
    seen=$(json_number "$3" "$5")
    [ "$seen" = "$4" ] || wrong "$1: vdcheck says $3 = ${seen:-nothing}, $2 is $4"
}

# verify NAME: the JSON of vdcheck against that of the generator.
verify()
{
    local name=$1 truth=$work/$1.json seen=$work/$1.vdcheck-json.out
    run "$name" vdcheck-json
    compare "$name" "what was put in" leaks "$(json_number leaks "$truth")" "$seen"
    compare "$name" "what was put in" allocated "$(json_number clusters "$truth")" "$seen"
    compare "$name" "what was put in" file_size "$(json_number file_size "$truth")" "$seen"
    compare "$name" "what was put in" corruptions 0 "$seen"
}

print_row()
{
    printf '%-8s %-13s %10s %10s %9s %13s %10s\n' "$@"
}

# print_program NAME PROGRAM: ratios are only for vdcheck's own rows.
print_program()
{
    local name=$1 program=$2 cpu to_qemu='' to_floor=''
    cpu=$(median "$name" "$program" 2)
    if [[ $program == vdcheck* ]]; then
        to_qemu=$($has_rival && ratio "$cpu" "$(median "$name" qemu-img 2)" || echo skipped)
        to_floor=$(ratio "$cpu" "$(median "$name" floor 2)")
    fi
    print_row "$name" "$program" \
        "$(printf %.4f "$(median "$name" "$program" 1)")" "$(printf %.4f "$cpu")" \
        "$(printf %.1f "$(ratio "$(median "$name" "$program" 3)" 1024)")" "$to_qemu" "$to_floor"
}

bench_large()
{
    local name=$1 programs=(vdcheck vdcheck--map floor) program round
    if $has_rival; then programs=(qemu-img "${programs[@]}"); fi

    verify "$name"
    for program in "${programs[@]}"; do
        run "$name" "$program"
        rm "$work/$name.$program.runs" # it was the warm-up
    done
    for ((round = 0; round < runs; round++)); do
        for program in "${programs[@]}"; do
            run "$name" "$program"
        done
    done
    $has_rival || print_row "$name" qemu-img skipped skipped skipped '' ''
    for program in "${programs[@]}"; do
        print_program "$name" "$program"
    done
}

bench_small()
{
    local round wall qemu_wall
    verify small
    for ((round = 0; round < small_runs; round++)); do
        run small vdcheck
        if $has_qemu; then run small qemu-img; fi
    done
    wall=$(median small vdcheck 1)
    printf '\nsmall image, start to end, %s runs: vdcheck %.2f ms' "$small_runs" "$(ratio "$wall" 0.001)"
    if $has_qemu; then
        qemu_wall=$(median small qemu-img 1)
        printf ', qemu-img %.2f ms, ratio (wall) %s\n' \
            "$(ratio "$qemu_wall" 0.001)" "$(ratio "$wall" "$qemu_wall")"
    else
        printf ', qemu-img skipped\n'
    fi
}

# file_bytes FILE: its length, or a word where it is not there.
file_bytes()
{
    if [ -e "$1" ]; then stat -c %s "$1"; else echo none; fi
}

# After the repair a QED file has lost its leaks, and nothing else; a qcow2 file keeps its length.
length_after_repair()
{
    local bytes
    bytes=$(json_number file_size "$work/leaks.json")
    [ "$format" = qcow2 ] && echo "$bytes" || echo $((bytes - $(json_number leaks "$work/leaks.json") * cluster_size))
}

bench_repair()
{
    local truth=$work/leaks.json copy=$work/repaired.$format leaks want after
    leaks=$(json_number leaks "$truth")
    want=$(length_after_repair)

    cp --sparse=always "$work/leaks.$format" "$copy"
    sync "$copy"
    run leaks vdcheck-repair "$copy"
    printf '{"clusters": %s, "leaks": 0, "file_size": %s}\n' "$(json_number clusters "$truth")" "$want" \
        >"$work/repaired.json"
    printf '\nrepair of %s leaks: %.3f s wall, %.3f s cpu, %.1f MiB\n' "$leaks" \
        "$(median leaks vdcheck-repair 1)" "$(median leaks vdcheck-repair 2)" \
        "$(ratio "$(median leaks vdcheck-repair 3)" 1024)"
    verify repaired
    after=$(file_bytes "$copy")
    printf 'second check: exit status %s; bytes of the file: %s, before %s; of the undo file: %s\n' \
        "$(awk '{ print $4 }' "$work/repaired.vdcheck-json.runs")" "$after" \
        "$(json_number file_size "$truth")" "$(file_bytes "$copy.vdcheck-undo")"
    [ "$after" = "$want" ] || wrong "after the repair the file should have $want bytes"
    rm -f "$copy"*
}

default_leaks()
{
    local sixteenth=$(($(json_number clusters "$work/contig.json") / 16))
    echo $((sixteenth < 1048576 ? sixteenth : 1048576))
}

bench_format()
{
    local name
    gen=$programs/gen-$format floor=$programs/floor-$format
    printf '\n%s: guest size %s, clusters of %s bytes\n' "$format" "$size" "$cluster_size"
    generate contig -s "$size" -l contig
    generate random -s "$size" -l random
    generate leaks -s "$size" -l contig -k "${BENCH_LEAKS:-$(default_leaks)}"
    generate small -s 64M -m 16
    echo
    print_row image program 'wall s' 'cpu s' 'RSS MiB' '/ qemu-img' '/ floor'
    for name in contig random leaks; do
        # QEMU needs minutes for one check of a qcow2 image in random order.
        has_rival=$has_qemu
        [ "$format $name ${BENCH_SLOW_RIVAL-}" != 'qcow2 random ' ] || has_rival=false
        bench_large "$name"
    done
    bench_small
    bench_repair
    rm -f "$work"/*
}

rival='qemu-img is not installed: skipped'
if $has_qemu; then rival=$(qemu-img --version | sed -n 1p); fi
printf '%s cpus; %s; medians of %s alternating runs, hot cache; ratios of cpu\n' "$(nproc)" "$rival" "$runs"
for format in $formats; do
    bench_format
done

[ $failed -eq 0 ] || echo 'bench: at least one answer was wrong, see above' >&2
exit $failed
