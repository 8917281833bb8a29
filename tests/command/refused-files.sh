#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is no image: every command names the file and what is wrong with it, exits with 8, and never hangs.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

mkdir folder
mkfifo fifo
: >empty
echo 'no image' >text
head -c 1M /dev/zero >zeroes
ln -s nowhere dangling
ln -s loop loop
ln -s fifo to-fifo
sample a.qed

# told FILE TEXT: whichever of the two outputs people see, it names the file and the problem.
told()
{
    cat "$told/out" >>"$told/err"
    says err "$1"
    says err "$2"
}

# refused STATUS FILE TEXT: a check, a repair and every other command that takes an image.
refused()
{
    vd "$2"
    expect 8
    told "$2" "$3"
    vd --repair "$2"
    expect 8
    told "$2" "$3"
    vd --output=json "$2"
    expect 8
    says out "\"path\": \"$2\""
    says out "\"status\": \"$1\""
    says out "$3"
    vd --exit-code=qemu "$2"
    expect "$([ "$1" = error ] && echo 1 || echo 63)"
    vd -q "$2"
    expect 8
    silent out
    told "$2" "$3"
    for c in map info salvage io undo; do
        case $c in
        salvage) vd salvage "$2" out.raw ;;
        io) vd io -c 'read 0 1' "$2" ;;
        *) vd $c "$2" ;;
        esac
        expect 8
        silent out
        told "$2" "$([ $c = undo ] || echo "$3")"
        matches err '^vdcheck: '
    done
    holds_not "salvage left an output behind" [ -e out.raw ]
}

refused error nosuch 'No such file or directory'
refused error folder/nosuch 'No such file or directory'
refused error dangling 'No such file or directory'
refused error loop 'symbolic links'
refused error folder 'a directory'
refused error fifo 'a FIFO'
refused error to-fifo 'a FIFO'
refused error /dev/null 'a character device'
refused error text/x 'Not a directory'
refused unsupported empty 'no format'
refused unsupported text 'no format'
refused unsupported zeroes 'no format'
refused unsupported text '--format=raw'

if has_command python3; then
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    refused error socket 'a socket'
else
    skip_part "no python3 to make a socket with"
fi

if can_be_nobody; then
    cp a.qed unreadable
    chmod 000 unreadable
    run as_nobody "$VDCHECK" unreadable
    expect 8
    told unreadable 'Permission denied'
    run as_nobody "$VDCHECK" --output=json unreadable
    expect 8
    says out '"status": "error"'
    rm -f unreadable
else
    skip_part "no setpriv to give up root's rights with"
fi

# one bad name among good ones: the others are checked all the same
vd a.qed nosuch a.qed
expect 8
[ "$(grep -c '^a.qed: clean' "$told/out")" -eq 2 ] || fail "the other images were not checked"

# with the wrong format named it is damaged, and with the right one it is not read as anything else
vd -f qed text
expect 4
says out qed.header-truncated
vd -f qed empty
expect 4
says out qed.header-truncated
vd -f qed zeroes
expect 4
says out qed.header-magic
vd -f raw a.qed
expect 8
says out 'no check'
vd -f raw --exit-code=qemu a.qed
expect 63
vd --format=QED a.qed
expect 16

# a header that was hit in its magic is known by the rest of it, never taken for a raw disk
cp a.qed magic.qed
poke magic.qed 0 0 1
vd magic.qed
expect 4
says out qed.header-magic
# ---- where an SQLite file is expected: a FIFO would be waited for, a device looks like a database that is empty
sample sound.qed
mkfifo pipe
for special in pipe /dev/null /dev/zero; do
    for words in '--map=%s sound.qed' 'audit --db=%s .' 'report %s' 'undo --undo-file=%s sound.qed'; do
        # shellcheck disable=SC2086
        run timeout -k 1 20 "$VDCHECK" ${words//%s/$special}
        expect 8
        says err 'no regular file'
    done
done
for make in mkfifo mkdir; do
    $make sound.qed.vdcheck-undo
    run timeout -k 1 20 "$VDCHECK" --repair sound.qed
    expect 12
    says out 'image.undo-file-unusable'
    run timeout -k 1 20 "$VDCHECK" undo sound.qed
    expect 8
    rm -rf sound.qed.vdcheck-undo
done
finish
