#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A farm of small images: formats, sizes, chains, and damage by share.
#
#     gen-farm.sh VDCHECK FOLDER IMAGES
#
# makes FOLDER with so many images, a hundred to a folder below it, and prints what a whole audit must count, as JSON.
# FARM_DAMAGE is the share of images with something wrong, in percent (2); FARM_CHAINS that of overlays (20). What there
# is depends on these numbers alone, so two farms of the same are equal.
set -euo pipefail
export LC_ALL=C

[ $# -eq 3 ] || { sed -n '4,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
vdcheck=$1 farm=$2 images=$3
damage=${FARM_DAMAGE:-2} chains=${FARM_CHAINS:-20}

mkdir "$farm"
kinds=$(mktemp -d "$farm/kinds.XXXXXX")

# poke FILE OFFSET BYTES: as printf has them
poke()
{
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# make FORMAT SIZE CLUSTERS FILE [WORD...]: with so much data, here and there
make()
{
    local i commands=() step

    "$vdcheck" create -f "$1" -o cluster_size=4k "${@:5}" "$4" "$2"
    step=$((64 * 1048576 / $3))
    for ((i = 0; i < $3; i++)); do
        commands+=(-c "write -P $((i % 250 + 1)) $((i * step / 4096 * 4096)) 4k")
    done
    "$vdcheck" io -q "${commands[@]}" "$4"
}

for format in qed qcow2; do
    make $format 64M 2 "$kinds/0.$format"
    make $format 1G 16 "$kinds/1.$format"
    make $format 8G 60 "$kinds/2.$format"
done
cp "$kinds/1.qcow2" "$kinds/base.qcow2"
make qcow2 1G 4 "$kinds/top.qcow2" -b base.qcow2 -F qcow2
# leaking: whole clusters behind the last one; dirty: its flag; damaged: the first L1 entry leads out of the file
cp "$kinds/1.qed" "$kinds/leaking.qed"
truncate -s +12k "$kinds/leaking.qed"
cp "$kinds/1.qcow2" "$kinds/dirty.qcow2"
poke "$kinds/dirty.qcow2" 79 '\1'
cp "$kinds/1.qed" "$kinds/damaged.qed"
poke "$kinds/damaged.qed" "$(od -An -v -t u8 -j 40 -N 8 "$kinds/1.qed" | tr -d ' ')" '\0\0\0\0\0\1\0\0'

declare -A count=([clean]=0 [leaking]=0 [dirty]=0 [damaged]=0)
wrong=(leaking.qed dirty.qcow2 damaged.qed)
n_wrong=0
declare -A copies # KIND: the names to be made of it
for ((i = 0; i < images; i++)); do
    folder=$farm/$(printf 'd%04d' $((i / 100)))
    [ $((i % 100)) -ne 0 ] || mkdir "$folder"
    if [ $((i % 100)) -eq 0 ]; then
        kind=base.qcow2 name=base.qcow2 status=clean
    elif [ $(((i * damage + 50) / 100)) -ne $((((i - 1) * damage + 50) / 100)) ]; then
        kind=${wrong[n_wrong++ % 3]} status=${kind%.*} name=$i.${kind#*.}
    elif [ $(((i * 7) % 100)) -lt "$chains" ]; then
        kind=top.qcow2 name=$i.qcow2 status=clean
    elif [ $((i % 2)) -eq 0 ]; then
        kind=$((i / 2 % 3)).qed name=$i.qed status=clean
    else
        kind=$((i / 2 % 3)).qcow2 name=$i.qcow2 status=clean
    fi
    count[$status]=$((count[$status] + 1))
    copies[$kind]+="$folder/$name "
done
# A program for each copy would take longer than all that is measured.
for kind in "${!copies[@]}"; do
    # shellcheck disable=SC2086,SC2016 # names without spaces; variables of the inner shell
    printf '%s\n' ${copies[$kind]} | xargs -n 500 sh -c 'tee "$@" <"$0" >/dev/null' "$kinds/$kind"
done
rm -r "$kinds"
printf '{"images": %s, "clean": %s, "leaking": %s, "dirty": %s, "damaged": %s}\n' "$images" "${count[clean]}" \
    "${count[leaking]}" "${count[dirty]}" "${count[damaged]}"
