#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Breaks an image and repairs it, step by step. Every command is shown as a person would type it; nothing but vdcheck and
# the shell is needed. An argument is the vdcheck to use.
set -u
vdcheck=$(realpath "${1:-vdcheck}") || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/vdcheck-demo.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    bold=$'\033[1m' plain=$'\033[0m'
fi

say() {
    printf '\n%s# %s%s\n' "$bold" "$*" "$plain"
}

# Shows a command, runs it, and insists on its exit status: run STATUS COMMAND...
run() {
    local want=$1 status
    shift
    printf '\n$ %s\n' "$*"
    eval "${*/#vdcheck/\"\$vdcheck\"}"
    status=$?
    if [ "$status" != "$want" ]; then
        echo "(exit status $status, and $want was expected)"
        failed=1
    fi
}

# Writes bytes (as printf takes them) at an offset of the image.
poke() {
    printf "\n$ printf '%s' | dd of=disk.qed bs=1 seek=%s conv=notrunc\n" "$2" "$(($1))"
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$2" | dd of=disk.qed bs=1 seek="$(($1))" conv=notrunc status=none
}

say "A disk of 8 GiB, with some data on it."
run 0 "vdcheck create -f qed disk.qed 8G"
run 0 "vdcheck io -c 'write -P 0xa5 0 256k' -c 'write -P 0x5a 1G 128k' disk.qed"

say "The power fails in the middle of a write: the data has reached the disk, the table that names it has not."
run 8 "vdcheck io --fault=write:cut=3 -c 'write -P 0x77 2M 128k' disk.qed"

say "And somebody's program writes where it should not: one entry of the L2 table becomes that of another guest cluster,"
say "another one gets stray bits, and garbage is appended to the file."
poke 0x90008 '\x00\x00\x05'
poke 0x90010 '\x07'
run 0 "head -c 200000 /dev/zero >> disk.qed"
cp disk.qed before.qed

say "What is wrong? A check writes nothing."
run 4 "vdcheck disk.qed"

say "What would a repair do? A dry run works it out and verifies it."
run 4 "vdcheck --repair --dry-run disk.qed"
run 0 "cmp disk.qed before.qed"

say "The repair: what is proven, and nothing else."
run 4 "vdcheck --repair disk.qed"

say "Every byte that could be read before reads the same: the two clusters that mirrored each other have a copy each."
run 0 "vdcheck io -r -c 'read -P 0xa5 0 256k' -c 'read -P 0x5a 1G 128k' disk.qed"

say "Once more: what is left is the leak that may be the lost cluster. Level all would free it, after a look at it."
run 4 "vdcheck disk.qed"

say "Take it all back: byte for byte."
run 0 "vdcheck undo disk.qed"
run 0 "cmp disk.qed before.qed"

if [ "$failed" = 0 ]; then
    say "All as it should be."
else
    say "Something was not as it should be: see above."
fi
exit "$failed"
