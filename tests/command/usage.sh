#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the user said wrongly: exit status 16, one line that names the word, nothing opened and nothing written.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample a.qed
cp a.qed before

# wrong TEXT WORD...: a usage error that says TEXT on standard error and nothing on standard output.
wrong()
{
    local text=$1

    shift
    vd "$@"
    expect 16
    says err "$text"
    matches err '^vdcheck: '
    silent out
}

wrong 'no image named'
wrong 'no image named' --
wrong '--nosuch' --nosuch a.qed
wrong '-Z' -Z a.qed
wrong '--owners' --owners a.qed                     # an option of map
wrong '--if-dirty' map --if-dirty a.qed             # an option of check
wrong '--undo-file' salvage --undo-file=x a.qed out
wrong '-f' a.qed -f
wrong '--format' a.qed --format
wrong '--undo-file' --repair a.qed --undo-file
wrong '--repair=most' --repair=most a.qed
wrong '--output=xml' --output=xml a.qed
wrong '--output=qemu-json' map --output=qemu-json a.qed
wrong '--exit-code=sysv' --exit-code=sysv a.qed
for n in 0 -1 x '' 99999999999999999999; do
    wrong "--jobs=$n" --jobs="$n" a.qed
done
for t in fast bps= bps=-1 bps=1x iops=0 'bps=1,'; do
    wrong "$t" --throttle="$t" a.qed
done
wrong 'nosuch' -f nosuch a.qed
wrong 'nosuch' -f nosuch --output=json a.qed

# options that contradict each other
wrong '--force-share' --force-share --repair a.qed
wrong '--force-share' -U -r a.qed
wrong '--dry-run' --dry-run a.qed
wrong '--undo-file' --undo-file=x a.qed
wrong '--no-undo-file' --no-undo-file a.qed
wrong '--undo-file' --repair --undo-file=x a.qed a.qed
wrong '/dev' --repair --undo-file=/dev/shm/x a.qed

# the other commands
for c in map info undo; do
    wrong 'expected' "$c"
    wrong 'expected' "$c" a.qed a.qed
done
wrong 'expected' salvage a.qed
wrong 'expected' salvage a.qed out more
wrong 'nosuch' salvage -O nosuch a.qed out
vd salvage --snapshot=nosuch a.qed out
expect 8
says err 'nosuch'
[ ! -e out ] || fail 'salvage of a snapshot that is not there left an output'
wrong 'nosuch' explain nosuch
wrong 'expected' explain qed.tail-leaked qed.tail-partial
wrong 'expected' formats qed
wrong 'expected' create
wrong 'expected' create -f qed x
wrong 'a format' create x 1M
wrong 'nosuch' create -f nosuch x 1M
for s in 1Q -1 x 1.5G '' 99999999999999999999; do
    wrong "$s" create -f qed x "$s"
done
wrong 'nosuch' create -f qed -b a.qed -F nosuch x 1M
wrong 'nosuch=1' create -f qed -o nosuch=1 x 1M
wrong 'expected' io a.qed
wrong 'expected' io -c 'map'
wrong 'frob' io -c 'frob 1' a.qed

for f in x out; do
    [ ! -e "$f" ] || fail "$f was written"
done
same a.qed before
[ "$(echo *)" = 'a.qed before' ] || fail "files were left behind: $(echo *)"

# "--" ends the options, and a word that is a command as a name is given with its folder
cp a.qed ./--repair
cp a.qed ./map
vd -- --repair
expect 0
vd ./map
expect 0
says out './map: clean'

# what is asked for is told on standard output, with 0
vd --help
expect 0
silent err
for o in --repair --if-dirty --dry-run --format --backing-chain --deep --allow --force-share --output --exit-code --map \
    --undo-file --no-undo-file --jobs --throttle --progress --no-progress --quiet --verbose --help --version; do
    says out "$o"
done
for c in undo map info salvage explain formats create io; do
    matches out "^  vdcheck $c "
done
vd --version
expect 0
matches out '^vdcheck [0-9]+\.[0-9]+'
for lib in SQLite zlib xxHash; do
    says out "$lib"
done
for c in undo map info salvage explain formats create io; do
    vd "$c" --help
    expect 0
    says out "Usage: vdcheck $c"
    silent err
done

# and says what an option means there
vd undo --help
lacks out 'where the undo file goes'
vd create --help
lacks out 'instead of probing'
for c in map info salvage; do
    vd $c --help
    lacks out qemu-json
    vd $c --output=qemu-json a.qed
    expect 16
    says err 'human or json expected'
done
vd --output=xml a.qed
expect 16
says err 'human, json or qemu-json expected'

# a level in the place of an image is not taken for one
cp a.qed was.qed
poke a.qed 16 2
cp a.qed before
for level in leaks safe all; do
    for words in --repair -r; do
        vd $words $level a.qed
        expect 16
        says err "--repair=$level"
    done
done
same a.qed before
mv was.qed all
vd --repair all
expect 0
rm all

# what --help of `io` promises is there
vd io --help
for c in $(grep -oE "'[a-z]+( |')" "$told/out" | tr -d "' "); do
    vd io -r -c "$c x x x x x" a.qed
    lacks err 'no such io command'
done
finish
