#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs a fuzzer for some seconds, from a few small images that vdcheck makes itself: fuzz.sh FUZZER SECONDS
set -eu
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT

seed() { # NAME FORMAT OPTIONS
    "$VDCHECK" create -f "$2" -o "$3" "$corpus/$1" 8M
    "$VDCHECK" io -q -c 'write -P 1 0 8k' -c 'write -P 2 64k 4k' -c 'zero 128k 4k' "$corpus/$1"
}

seed qed-1 qed cluster_size=4k,table_size=1
seed qed-2 qed cluster_size=4k,table_size=2
seed qcow2 qcow2 cluster_size=512
seed qcow2-v2 qcow2 cluster_size=512,compat=0.10
seed qcow2-bits qcow2 cluster_size=512,refcount_bits=1,lazy_refcounts=on
"$1" -max_total_time="$2" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 "$corpus"
