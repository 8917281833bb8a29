#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Names of files, and names inside images, are bytes from strangers: JSON keeps them whole, a terminal never gets their
# control characters.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample a.qed

# raw_controls FILE: whether a byte that a terminal may act on stands in it
raw_controls()
{
    tr -d '\n\t' <"$1" | grep -q '[[:cntrl:]]'
}

# quiet_bytes: neither output of the last run has one
quiet_bytes()
{
    local f

    for f in out err; do
        if raw_controls "$told/$f"; then
            fail "control characters of a name in standard $f"
        fi
    done
}

esc=$'e\033[31mvil\a\r\b.qed'
cp a.qed "$esc"
out_of_file a.qed "d$esc"
latin=$'caf\xe9.qed'
cp a.qed "$latin"
line=$'two\nlines.qed'
cp a.qed "$line"
c1=$'c1\xc2\x9b31m.qed'      # U+009B is CSI
cp a.qed "$c1"

for name in "$esc" "d$esc" "$latin" "$line" "$c1" "no$esc" "no$latin"; do
    for words in '' --verbose --repair=all --output=json --output=qemu-json -q map 'map --output=json' info \
        'info --output=json' undo 'io -r -c map' 'io -r -c frob'; do
        # shellcheck disable=SC2086 # words
        vd $words "$name"
        quiet_bytes
    done
    vd salvage "$name" "out$name"
    quiet_bytes
    vd create -f qed "$name" 1M
    quiet_bytes
    vd -f "$name" a.qed
    quiet_bytes
    vd --"$name" a.qed
    quiet_bytes
    vd explain "$name"
    quiet_bytes
    vd --repair --undo-file="$name/$name" "d$esc"
    quiet_bytes
    vd --map="$name" "$name"
    quiet_bytes
    vd --throttle="$name" a.qed
    quiet_bytes
    vd --fault="$name" a.qed
    quiet_bytes
    vd io -c "$name" a.qed
    quiet_bytes
done

# one line stays one line
vd "$line"
[ "$(wc -l <"$told/out")" -eq 1 ] || fail "a newline in a name makes a second line"

# an error's story may hold the name, too
vd $'no\033such'
says out 'No such file'
quiet_bytes

# names in JSON: U+FFFD for what is not UTF-8, and the bytes beside it
vd --output=json "$latin"
expect 0
says out $'"path": "caf\xef\xbf\xbd.qed"'
says out "\"path_base64\": \"$(printf '%s' "$latin" | base64)\""
vd --output=json a.qed
lacks out path_base64
vd --output=json "$esc"
lacks out path_base64
if has_command jq; then
    [ "$(jq -j '.images[0].path' <"$told/out")" = "$esc" ] || fail "the name in JSON is not the file's"
    vd --output=json "$latin"
    [ "$(jq -r '.images[0].path_base64' <"$told/out" | base64 -d)" = "$latin" ] || fail "path_base64 is not the name"
    out_of_file a.qed "D$esc"
    vd --output=json --repair=all "D$esc"
    expect 1
    [ "$(jq -j '.images[0].repair.undo_file' <"$told/out")" = "D$esc.vdcheck-undo" ] || fail "the undo file's name"
    vd --output=qemu-json "$esc"
    [ "$(jq -j .filename <"$told/out")" = "$esc" ] || fail "the name in QEMU's JSON is not the file's"
else
    skip_part "no jq to read JSON with"
fi

# the name of a backing file comes from the image
"$VDCHECK" create -f qed -b a.qed -F qed overlay.qed 8G || fail "create"
printf '\033[31m\a\351x' | dd of=overlay.qed bs=1 seek=64 conv=notrunc status=none
poke overlay.qed 60 8 4
for words in '' -c '-v -c' info 'info -c' 'info --output=json' '--output=json' 'io -r -c map' 'salvage'; do
    # shellcheck disable=SC2046,SC2086 # words
    vd $words overlay.qed $([ "$words" != salvage ] || echo out.raw)
    quiet_bytes
done

# escaped once, by whatever way it comes; in JSON it is the name itself
vd overlay.qed
says out "found '\\x1b[31m\\x07\\xe9x' cannot be found"
vd salvage -f qed overlay.qed out2.raw
says out "'\\x1b[31m\\x07\\xe9x' cannot be found"
vd io -c 'read 0 1' overlay.qed
says err "'\\x1b[31m\\x07\\xe9x' cannot be found"
vd --output=json overlay.qed
matches out '"found": "'"'\\\\u001[bB]\\[31m\\\\u0007$(printf '\357\277\275')x' cannot be found"
says out '"found_base64"'
printf 'a\\b\0c' | dd of=overlay.qed bs=1 seek=64 conv=notrunc status=none
poke overlay.qed 60 5 4
vd overlay.qed
says out "'a\\\\b$(printf '\342\220\200')c' is no file name"
"$VDCHECK" create -f qcow2 -b a.qed -F qed overlay.qcow2 8G || fail "create"
sed -i 's/a\.qed/a\x1bqed/' overlay.qcow2
vd overlay.qcow2
says out "found 'a\\x1bqed' cannot be found"

# what is printed to be pasted is one word of the shell, whatever the name
for name in plain.qed 'my disk.qed' "it's \$(touch PWNED);touch PWNED.qed" $'new\nline\\.qed' $'\xe9\xc3\xa4.qed' '~x*.qed'; do
    leaking a.qed "$name"
    cp "$name" before
    vd "$name"
    words=$(sed -n 's/^  next: vdcheck \(--repair --dry-run .*\)   shows.*/\1/p' "$told/out")
    run bash -c "\"\$VDCHECK\" $words"
    [[ -n $words && $status -eq 4 ]] || fail "what is to be pasted does not work: $words"
    same "$name" before
    vd --repair "$name"
    words=$(sed -n 's/^  taken back with: vdcheck \(undo .*\)   (undo file.*/\1/p' "$told/out")
    run bash -c "\"\$VDCHECK\" $words"
    [[ -n $words && $status -eq 0 ]] || fail "what is to be pasted does not work: $words"
    same "$name" before
    vd --repair --undo-file="u $name" "$name"
    words=$(sed -n 's/^  taken back with: vdcheck \(undo .*\)$/\1/p' "$told/out")
    run bash -c "\"\$VDCHECK\" $words"
    [[ -n $words && $status -eq 0 ]] || fail "what is to be pasted does not work: $words"
    same "$name" before
done
[ ! -e PWNED ] || fail "a name was run as a command"

# the longest names, and none at all
long=$(printf 'n%.0s' $(seq 1 234))
cp a.qed "$long"
vd "$long"
expect 0
vd ''
expect 8
vd "$long$long"
expect 8
says out 'File name too long'
out_of_file a.qed "$long"
vd --repair=all "$long"      # the undo file's name, and SQLite's behind it, fit just so
expect 1
vd undo "$long"
expect 0
out_of_file a.qed "${long}5"
cp "${long}5" before
vd --repair=all "${long}5"
expect 12                    # here they do not: refused, with the reason, and the image as before
says out 'File name too long'
same "${long}5" before
holds_not "a useless undo file was left behind" [ -e "${long}5.vdcheck-undo" ]
vd --repair=all --undo-file=short "${long}5"
expect 1
vd undo short
expect 0
same "${long}5" before
finish
