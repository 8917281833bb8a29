#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Repairs of real files that are killed, or whose power goes, at one call after another: what is left is the old image,
# the new one, or one whose check says image.repair-unfinished; the next repair ends it, undo takes it back, byte for byte.
# VDCHECK_LONG=1 takes every call.
fixture=${FIXTURE:-$PWD/tests/fixture/fixture}
# shellcheck source=tests/command/functions.sh
. "${srcdir:?}/tests/command/functions.sh"

# A sanitizer cannot look for leaks in a program that is followed.
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
step=6
[ "${VDCHECK_LONG:-0}" = 0 ] || step=1

# same_files FOLDER FOLDER: but for what repairs leave beside them
same_files()
{
    local file

    for file in "$1"/*; do
        case $file in
            *.vdcheck-*) ;;
            *) cmp -s "$file" "$2/${file##*/}" || return 1 ;;
        esac
    done
}

# copy FOLDER FOLDER: with holes as they are, and with the times, for a file system may give an inode out again
copy()
{
    local file

    rm -rf "$2"
    "$fixture" copy "$1" "$2" || exit 99
    for file in "$1"/*; do
        touch -r "$file" "$2/${file##*/}"
    done
}

# in_folder FOLDER WORD...: vdcheck there
in_folder()
{
    cd "$1" || exit 99
    shift
    vd "$@"
    cd .. || exit 99
}

# judge WHERE: the folder `cut` is what a cut repair left, `built` the old files, `repaired` the new ones. The journals
# of a chain name each other by their whole paths, so all is tried in that folder.
judge()
{
    local where=$1 state=half

    copy cut left
    same_files built cut && state=old
    same_files repaired cut && state=new
    in_folder cut "${options[@]}" image
    ran="$ran, $where"
    same_files left cut || fail "a check changed something"
    if grep -qF image.repair-unfinished "$told/out"; then
        [ $state != half ] || halfway=$((halfway + 1))
        state=unfinished
    fi
    seen+=" $state"
    [ $state != half ] || fail "half of a repair, and the check does not say so"
    in_folder cut undo image
    ran="$ran, $where"
    same_files built cut || fail "undo does not lead back"
    if [ $state = old ]; then expect 8; else expect 0; fi
    copy left cut
    in_folder cut --repair "${options[@]}" image
    ran="$ran, $where"
    same_files repaired cut || fail "the next repair does not lead to the new image"
    in_folder cut undo image
    ran="$ran, $where"
    expect 0
    same_files built cut || fail "undo of the repair that was ended does not lead back"
}

# kill_at N: its Nth call that changes a file is the one that is never made
kill_at()
{
    copy built cut
    cd cut || exit 99
    run timeout -k 5 120 "$fixture" with "kill-at=$1" image "$VDCHECK" --repair "${options[@]}" image
    cd .. || exit 99
}

# begin FIXTURE [OPTION...]: its files, old and new, and how many calls it takes from the ones to the others
begin()
{
    name=$1
    shift
    options=("$@")
    seen='' halfway=0
    rm -rf built
    mkdir built
    "$fixture" build "$srcdir/fixtures/$name/recipe" built || exit 99
    kill_at 1000000
    [ "$status" -ne 77 ] || skip 'programs cannot be followed here'
    expect 1
    matches err 'it ended after [0-9]+ calls'
    calls=$(sed -n 's/.*ended after \([0-9]*\) calls/\1/p' "$told/err")
    copy cut repaired
    ! same_files built repaired || fail "$name: nothing was repaired"
}

killed_at()
{
    kill_at "$1"
    expect 137
    judge "$name killed at call $1 of $calls"
}

killed_everywhere()
{
    local n state

    for ((n = first; n < calls; n += step)); do
        killed_at $n
    done
    killed_at "$calls"
    for state in old unfinished new; do
        [[ $seen = *" $state"* ]] || fail "$name: no kill left it $state"
    done
    first=$((first % step + 1)) # the next one elsewhere
}

# cut_at N: the power goes in the Nth write to the image, of which nothing arrives, or one sector
cut_at()
{
    copy built cut
    in_folder cut --fault="write:cut=$1,torn=$((($1 - 1) % 2 * 512))" --repair "${options[@]}" image
    [ "$status" -ne 1 ]
}

cut_everywhere()
{
    local n=1

    while cut_at "$n"; do
        [ $((status & 8)) -eq 8 ] || fail "$name: no error"
        says out 'the repair is unfinished'
        judge "$name cut in write $n"
        n=$((n + 1))
    done
    [ "$n" -gt 1 ] || fail "$name: no write was cut"
    [ "$halfway" -gt 0 ] || fail "$name: was never left half-way"
}

first=1
begin qed/l2-entry-shared.tables
killed_everywhere
cut_everywhere
begin qed/cluster-leaked
killed_everywhere
cut_everywhere
begin qed/need-check-set.leak
cut_everywhere
begin qed/tail-leaked.chain --backing-chain
killed_everywhere
finish
