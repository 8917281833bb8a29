#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzzer is built by clang, in a tree of its own inside this build tree: fuzz-tree.sh SRCDIR SECONDS
set -eu
srcdir=$(cd "$1" && pwd)
seconds=$2
if ! command -v clang > /dev/null; then
    echo 'fuzzer skipped: clang is not installed'
    exit 0
fi
if [ -e "$srcdir/config.status" ]; then
    echo 'fuzzer skipped: the source itself is configured, and a tree beside it would be refused'
    exit 0
fi
if ! printf 'int LLVMFuzzerTestOneInput(void);\nint LLVMFuzzerTestOneInput(void) { return 0; }\n' |
    clang -fsanitize=fuzzer,address -x c -o /dev/null - 2> /dev/null; then
    echo 'fuzzer skipped: this clang has no libFuzzer'
    exit 0
fi
mkdir -p fuzz-tree
cd fuzz-tree
[ -e Makefile ] || "$srcdir/configure" -q --enable-fuzzing CC=clang
unset MAKEFLAGS MAKELEVEL # what make says to its own children is nothing for another tree
exec make fuzz FUZZ_SECONDS="$seconds"
