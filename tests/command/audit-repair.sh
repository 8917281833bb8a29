#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Audits that repair: what is written to and what is not, undo files in one folder, who goes first, and what is left when
# something comes between.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

pids=()
clean_up_more() { [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null; }

# settle: until no time stamp is so new that a later change could hide behind it
settle()
{
    sleep 0.1
}

# mend WORD...: an audit of the farm with repairs, into db
mend()
{
    vd audit --db=db --undo-dir=undo "$@" farm
}

# fresh IMAGE...: a farm of these images, as they were made, and nothing known of it
fresh()
{
    rm -rf farm undo db*
    mkdir -p farm/sub
    cp -p "$@" farm
    settle
}

# told_of IMAGE FILTER: what the JSON report has of it
told_of()
{
    "$VDCHECK" report --output=json "${3:-db}" | jq -r --arg name "$1" ".images[] | select(.path | endswith(\$name)) | $2"
}

# undo_file_of IMAGE
undo_file_of()
{
    sed -n 's/^ *undo with: vdcheck undo //p' "$told/out" | grep -F "/$1-"
}

mkdir made
sample made/clean.qed
leaking made/clean.qed made/leaking.qed
tail_leaking made/clean.qed made/tail.qed
shared made/clean.qed made/shared.qed
out_of_file made/clean.qed made/out.qed
dirty made/clean.qed made/dirty.qed

# ---- usage
fresh made/clean.qed
mend --repair=all
expect 16
says err '--repair=all gives things up'
vd audit --db=db --undo-dir=undo farm
expect 16
says err '--undo-dir goes with --repair'
vd audit --db=db --repair safe farm
expect 16
says err '--repair=safe'
for words in --repair=most --dry-run --no-undo-file --undo-file=x --undo-dir= --undo-dir=/dev/x; do
    vd audit --db=db --repair $words farm
    expect 16
done
[ ! -e undo ] && [ ! -e db ] || fail "a usage error makes something"

# ---- what is written to, and what is not
fresh made/*.qed
cp -p made/tail.qed farm/sub/
stat -c '%n %i %.9Y %.9Z %s' farm/clean.qed farm/out.qed >before
mend --repair=leaks -j 2
expect 5
says out '7 images: 1 clean, 2 repaired'
says out '7 checked, 0 unchanged, 2 repaired'
says out 'repaired: clusters behind the last used one (3) [qed.tail-leaked]'
same made/shared.qed farm/shared.qed
same made/leaking.qed farm/leaking.qed
stat -c '%n %i %.9Y %.9Z %s' farm/clean.qed farm/out.qed >after
same before after
[ "$(find undo -type f | wc -l)" = 2 ] || fail "undo files: $(find undo)"
[ "$(stat -c %a undo)" = 700 ] || fail "the folder of undo files is open to others"
[ -z "$(find farm -name '*.vdcheck-*')" ] || fail "something is left beside the images"
mend --repair
expect 5
says out '(was damaged)'
stat -c '%n %i %.9Y %.9Z %s' farm/clean.qed farm/out.qed >after
same before after
[ "$(find undo -type f | wc -l)" -ge 4 ] || fail "undo files: $(find undo)"
# the night after: all as it was, and no repair is tried once more
settle
find undo farm/tail.qed farm/shared.qed -type f -exec stat -c '%n %.9Y' {} + | sort >before2
mend --repair
lacks out 'undo with'
find undo farm/tail.qed farm/shared.qed -type f -exec stat -c '%n %.9Y' {} + | sort >after
same before2 after
stat -c '%n %i %.9Y %.9Z %s' farm/clean.qed farm/out.qed >after
same before after

# ---- one image after the other: what is told, kept and taken back
for name in tail shared dirty leaking; do
    fresh made/$name.qed made/clean.qed
    mend --repair
    if "$VDCHECK" -q farm/$name.qed; then
        expect 1
        says out '1 repaired'
        settle
        undo_file=$(undo_file_of $name.qed)
        mend --repair
        says out '0 checked, 2 unchanged'
        lacks out 'undo with'
        if has_command jq; then
            [ "$(told_of $name.qed .status)" = repaired ] || fail "status"
            [ "$(told_of $name.qed '[.counts | .corruptions + .leaks + .states] == [.counts | .corruptions_fixed + .leaks_fixed + .states_fixed]')" = true ] || fail "counts"
            [ "$(told_of $name.qed '.findings | length > 0 and all(.fixed == .count and .message != null)')" = true ] || fail "findings"
            [ "$(told_of $name.qed '.repair | [.level, .dry_run, .verified, .undo_file] | join(" ")')" = "safe false true $undo_file" ] ||
                fail "$(told_of $name.qed .repair)"
            [ "$(told_of clean.qed .repair)" = null ] || fail "a repair of a clean image"
        fi
        vd audit --db=db --full farm # the repair is history
        expect 0
        says out '2 clean'
    else
        expect 4 # evidence is kept
        says out leaking
        undo_file=$(undo_file_of $name.qed)
    fi
    vd undo "$undo_file"
    expect 0
    same made/$name.qed farm/$name.qed
    vd audit --db=db farm
    expect 4
    says out "$name.qed"
done
# a second repair of the same image does not take the first one's undo file
fresh made/tail.qed
mend --repair=leaks
first=$(undo_file_of tail.qed)
truncate -s +$((2 * C)) farm/tail.qed
cp farm/tail.qed between
settle
mend --repair=leaks
expect 1
second=$(undo_file_of tail.qed)
[ -n "$second" ] && [ "$first" != "$second" ] || fail "undo files '$first' and '$second'"
vd undo farm/tail.qed # has no undo file beside it
expect 8
vd undo "$second"
same between farm/tail.qed

# ---- the usual place, and relative names
fresh made/tail.qed
mkdir elsewhere
( cd elsewhere && "$VDCHECK" audit -q --db=../farm.db --repair ../farm )
[ -n "$(find farm.db-undo -name 'tail.qed-*.vdcheck-undo')" ] || fail "no undo file beside the database"
rm -rf farm.db* elsewhere
# names of any bytes, and long ones
fresh made/tail.qed
long=$(printf 'n%.0s' {1..230})
mv farm/tail.qed "farm/$(printf '\377 \n')$long"
mend --repair
expect 1
vd undo "$(find undo -type f)"
expect 0

# ---- bases before what stands on them; what these read stays the same
# overlay FILE BASE [WORD...]: with its tables where `sample` has them
overlay()
{
    "$VDCHECK" create -f qed -b "$2" -F qed "$1" 8G &&
        "$VDCHECK" io -q "${@:3}" -c 'write -P 4 128k 64k' -c 'write -P 5 192k 64k' "$1" || exit 99
    [ "$(peek "$1" $L1)" -eq $((L2)) ] || exit 99
}
fresh made/shared.qed
overlay farm/a-top1.qed shared.qed
overlay farm/a-top2.qed shared.qed
overlay farm/a-top0.qed a-top1.qed
for i in 0 1 2; do
    "$VDCHECK" salvage -q farm/a-top$i.qed expected.$i
    truncate -s +$((4 * C)) farm/a-top$i.qed
done
settle
mend --repair -j 4
says out '3 repaired'
says out '4 checked, 0 unchanged, 4 repaired'
for i in 0 1 2; do
    "$VDCHECK" salvage -q farm/a-top$i.qed read
    same expected.$i read
    rm read expected.$i
done
find undo -type f -printf '%T@ %f\n' | sort -n | sed 's/^[^ ]* //; s/-[0-9a-f]*\.vdcheck-undo$//' >order
[ "$(wc -l <order)" = 4 ] || fail "each file once: $(cat order)"
[ "$(head -n 1 order)" = shared.qed ] && [ "$(tail -n 1 order)" = a-top0.qed ] || fail "bases first: $(cat order)"

# ---- busy: left alone, also where it is only read
fresh made/tail.qed made/shared.qed
for mode in '' -r; do
    # shellcheck disable=SC2086 # no word at all
    "$VDCHECK" io -q $mode -c 'sleep 600000' farm/tail.qed >held 2>&1 &
    pids=($!)
    if ! wait_for 10 grep -q "OFDLCK.*:$(stat -c %i farm/tail.qed) " /proc/locks; then
        skip_part "no OFD locks in /proc/locks"
        break
    fi
    rm -rf db* undo
    mend --repair=leaks
    [ "$mode" = -r ] || expect 68 # a reader lets others read, so what is left is known
    [ $((status & 64)) = 64 ] || fail "status $status"
    says out '1 busy'
    same made/tail.qed farm/tail.qed
    [ -z "$(find undo -type f)" ] || fail "an undo file of a busy image"
    kill -KILL "${pids[0]}"
    wait "${pids[0]}" 2>/dev/null
    pids=()
done
mend --repair=leaks
says out '1 repaired'

# a guest that wants to start while a repair is under way is refused by the locks, and the repair ends well
fresh made/tail.qed
"$VDCHECK" audit --db=db --undo-dir=undo --repair --throttle=iops=3 farm >slow 2>&1 &
pids=($!)
if wait_for 20 grep -q "OFDLCK.*:$(stat -c %i farm/tail.qed) 201 " /proc/locks; then
    "$VDCHECK" io -q -c 'write -P 7 0 64k' farm/tail.qed >guest 2>&1 && fail "a guest starts during a repair"
else
    skip_part "the locks of a repair were not seen"
fi
wait "${pids[0]}"
status=$?
pids=()
expect 1
holds "a repair that a guest came to" "$VDCHECK" farm/tail.qed

# ---- no room for undo files, no right to write them, no way to leave a stub
fresh made/shared.qed
mkdir small
if unshare -m mount -t tmpfs none small 2>/dev/null; then
    # shellcheck disable=SC2016 # variables of the inner shell
    run unshare -m bash -c 'mount -t tmpfs -o size=64k none small; "$VDCHECK" audit --db=db --undo-dir=small --repair farm; s=$?
        find small -type f >left; exit $s'
    expect 12
    says out 'for its undo file'
    says out '1 error'
    same made/shared.qed farm/shared.qed
    [ ! -s left ] || fail "an undo file is left on a full disk"
    [ -z "$(find farm -name '*.vdcheck-*')" ] || fail "a stub of no repair"
    mend --repair # and once there is room
    says out 'undo with'
else
    skip_part "nothing can be mounted here"
fi
if can_be_nobody && [ "$(id -u)" -eq 0 ]; then
    fresh made/tail.qed
    mkdir -m 777 nobodys
    mkdir -m 755 shut
    chmod 666 farm/tail.qed
    run as_nobody "$VDCHECK" audit --db=nobodys/db --undo-dir=nobodys/undo --repair farm
    expect 12
    says out 'the folder cannot be written'
    same made/tail.qed farm/tail.qed
    chmod 777 farm
    run as_nobody "$VDCHECK" audit --db=nobodys/db --undo-dir=shut --repair --full farm
    expect 12
    says out 'cannot create the undo file'
    same made/tail.qed farm/tail.qed
    [ -z "$(find farm -name '*.vdcheck-*')" ] || fail "a stub of no repair"
    run as_nobody "$VDCHECK" audit --db=nobodys/db --undo-dir=shut/not --repair farm
    expect 8
    says err '--undo-dir=DIR names another place'
    # an owner without rights over others does it all the same
    run as_nobody "$VDCHECK" audit --db=nobodys/db --repair --full farm
    expect 1
    run as_nobody "$VDCHECK" undo "$(undo_file_of tail.qed)"
    expect 0
    same made/tail.qed farm/tail.qed
fi

# ---- cut off before: finished, wherever the undo files lie
fresh made/shared.qed
mkdir -p far
vd --repair --undo-file=far/undo-file --fault=write:cut=1 farm/shared.qed
expect 12
settle
vd audit --db=db farm
expect 4
says out image.repair-unfinished
mend --repair=leaks
lacks out '1 error'
says out '[image.repair-unfinished]' # as what was repaired
holds_not "it is unfinished still" grep -q image.repair-unfinished <("$VDCHECK" farm/shared.qed)
vd undo far/undo-file
expect 0
same made/shared.qed farm/shared.qed
rm -rf far farm/shared.qed.vdcheck-stub

# a chain across folders
rm -rf chain
mkdir -p chain/base chain/top
cp made/shared.qed chain/base/base.qed
overlay chain/top/top.qed ../base/base.qed --allow=chain/base
poke chain/top/top.qed $((L2 + 24)) "$(peek chain/top/top.qed $((L2 + 16)))"
cp -a chain chain.before
vd --repair -c --allow=chain/base --fault=write:cut=1 chain/top/top.qed
expect 12
settle
if [ -e chain/base/base.qed.vdcheck-undo ] && [ -e chain/top/top.qed.vdcheck-undo ]; then
    vd audit --db=chain.db chain
    expect 4
    says out '2 dirty'
    [ "$(grep -c image.repair-unfinished "$told/out")" = 2 ] || fail "both are to be named"
    vd audit --db=chain.db --repair chain
    lacks out error
    lacks out 'state: '
    vd audit --db=chain.db chain # its undo files are the chain's still
    [ $((status & 8)) = 0 ] || fail "a finished repair of a chain"
    lacks out image.repair-unfinished
    vd undo chain/top/top.qed
    expect 0
    same chain/base/base.qed chain.before/base/base.qed
    same chain/top/top.qed chain.before/top/top.qed
else
    fail "no chain was cut off"
fi

# ---- another file takes the name between the check and the repair
fresh made/shared.qed
cp -p made/shared.qed farm/z.qed
settle
"$VDCHECK" audit --db=db --undo-dir=undo --repair --throttle=iops=4 farm >slow 2>&1 &
pids=($!)
# shellcheck disable=SC2317 # called by wait_for
is_at_z() { grep -q "OFDLCK.*:$(stat -c %i farm/z.qed) " /proc/locks; }
if wait_for 30 is_at_z; then
    cp made/shared.qed other.qed
    mv other.qed farm/shared.qed
    wait "${pids[0]}"
    grep -q 'another file has taken this name' slow || fail "$(cat slow)"
    same made/shared.qed farm/shared.qed
fi
wait "${pids[0]}" 2>/dev/null
pids=()

# ---- a time limit, and signals: no half repairs
for name in tail shared; do
    cp made/$name.qed repaired.qed
    "$VDCHECK" -q --repair --no-undo-file repaired.qed
    mv repaired.qed repaired.$name
done
# not_half NAME: what is left is the old image or the repaired one, with nothing under way
not_half()
{
    cmp -s "made/$1.qed" "farm/$1.qed" || cmp -s "repaired.$1" "farm/$1.qed" || fail "$1: half a repair"
    vd farm/"$1".qed
    lacks out image.repair-unfinished
}
fresh made/shared.qed
vd audit --db=db --undo-dir=undo --repair --timeout=1 --throttle=iops=3 farm
not_half shared
for delay in 0.3 0.8 1.4 2 2.6; do
    fresh made/tail.qed made/shared.qed
    "$VDCHECK" audit --db=db --undo-dir=undo --repair --throttle=iops=12 farm >slow 2>&1 &
    pids=($!)
    sleep $delay
    kill -TERM "${pids[0]}" 2>/dev/null
    wait "${pids[0]}"
    status=$?
    pids=()
    ran="audit --repair, and SIGTERM after $delay s"
    [ $((status & 8)) = 0 ] || fail "an error: $status, $(cat slow)"
    not_half tail
    not_half shared
    vd audit --db=db --undo-dir=undo --repair --resume farm
    [ $((status & 8)) = 0 ] || fail "cannot be gone on with"
    same repaired.tail farm/tail.qed
    same repaired.shared farm/shared.qed
done

# ---- shards: a base and what stands on it are repaired by one
fresh made/tail.qed
for i in {1..6}; do
    cp -p made/tail.qed farm/$i.qed
    "$VDCHECK" create -f qcow2 -b $i.qed -F qed farm/top$i.qcow2 8G
done
settle
for i in 1 2 3; do
    vd audit --db=shard$i.db --undo-dir=undo --shard=$i/3 --repair farm
    [ $((status & ~1)) = 0 ] || fail "shard $i: $status"
done
vd report shard1.db shard2.db shard3.db
expect 1
says out '13 images: 6 clean, 7 repaired'
[ "$(find undo -type f | wc -l)" = 7 ] || fail "each image once"

# ---- without walls all the same
fresh made/tail.qed
mend --repair --no-sandbox
expect 1
finish
