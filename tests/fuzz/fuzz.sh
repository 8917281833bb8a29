#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a fuzzer for some seconds, from a few small images that vdcheck makes itself: fuzz.sh FUZZER SECONDS
set -eu
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
for table in 1 2; do
    image=$corpus/qed-$table
    "$VDCHECK" create -f qed -o cluster_size=4k,table_size="$table" "$image" 8M
    "$VDCHECK" io -q -c 'write -P 1 0 8k' -c 'write -P 2 64k 4k' -c 'zero 128k 4k' "$image"
done
"$1" -max_total_time="$2" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 "$corpus"
