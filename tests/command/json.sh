#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# --output=json: valid, every key there for every kind of image, null where a thing is not known.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

if ! has_command jq; then
    skip "no jq to read JSON with"
fi

# is FILTER: what came out is JSON, and jq's filter is true of it.
is()
{
    jq -e "$1" <"$told/out" >/dev/null 2>"$told/err" || fail "not so: $1"
}

# keys: every key of the contract stands in every image, and what the counts say is what the findings say
keys()
{
    # shellcheck disable=SC2016 # jq's variables
    is 'def has_all($keys): . as $o | $keys | all(. as $k | $o | has($k));
        def counted($severity): [.findings[] | select(.severity == $severity) | .count] | add // 0;
        (.vdcheck.version | type == "string") and .vdcheck.schema == 1 and (.images | type == "array") and
        all(.images[];
            has_all(["path", "format", "virtual_size", "file_size", "cluster_size", "status", "counts", "leaked_bytes",
                     "clusters", "image_end_offset", "findings", "repair", "io", "seconds"]) and
            (.counts | keys == ["corruptions", "corruptions_fixed", "errors", "leaks", "leaks_fixed", "states",
                                "states_fixed", "warnings"]) and
            (.clusters | . == null or keys == ["allocated", "compressed", "fragmented", "total", "zero"]) and
            (.io | keys == ["bytes_read", "bytes_written", "reads", "writes"]) and
            (.status | IN("busy", "error", "unsupported", "damaged", "dirty", "leaking", "repaired", "clean")) and
            (.repair | . == null or has_all(["level", "dry_run", "undo_file", "writes", "bytes_written", "verified"])) and
            (.seconds | type == "number") and
            .counts.corruptions == counted("corruption") and .counts.leaks == counted("leak") and
            .counts.states == counted("state") and .counts.warnings == counted("warning") and
            .counts.errors == counted("error") and
            all(.findings[];
                has_all(["id", "severity", "count", "places", "message", "repair", "level", "fixed"]) and
                (.severity | IN("corruption", "leak", "state", "warning", "error")) and
                (.level | IN("leaks", "safe", "all", "none")) and
                all(.places[]; has_all(["host_offset", "guest_offset", "found", "expected"]))))'
}

# one STATUS NAME WORD...: one image, of that name, with all its keys
one()
{
    expect=$1
    shift
    vd --output=json "$@"
    expect "$expect"
    keys
    is '.images | length == 1'
}

sample clean.qed
leaking clean.qed leaking.qed
out_of_file clean.qed damaged.qed
dirty clean.qed dirty.qed

one 0 clean.qed
is '.images[0] | .path == "clean.qed" and .format == "qed" and .status == "clean"'
is '.images[0] | .virtual_size == 8589934592 and .file_size == 786432 and .cluster_size == 65536'
is '.images[0] | .image_end_offset == 786432 and .leaked_bytes == 0 and .findings == [] and .repair == null'
is '.images[0].clusters == {"total": 131072, "allocated": 3, "fragmented": 1, "compressed": 0, "zero": 0}'
is '.images[0].io | .reads > 0 and .bytes_read > 0 and .writes == 0 and .bytes_written == 0'

one 4 damaged.qed
is '.images[0] | .status == "damaged" and .counts.corruptions == 1 and .counts.leaks == 1 and .leaked_bytes == 65536'
is '[.images[0].findings[] | select(.id == "qed.l2-entry-out-of-file")] | length == 1 and .[0].count == 1 and
    .[0].level == "all" and .[0].fixed == 0 and
    .[0].places[0].host_offset == 393224 and .[0].places[0].guest_offset == 65536 and .[0].places[0].found == "0x7fff0000"'
is '[.images[0].findings[] | select(.id == "qed.cluster-leaked")][0].places[0].host_offset == 655360'
one 4 leaking.qed
is '.images[0] | .status == "leaking" and .leaked_bytes == 65536 and .findings[0].level == "safe"'
one 4 dirty.qed
is '.images[0] | .status == "dirty" and .counts.states == 1'

# what is not known is null and there
for damage in '0 1 1' '4 12345 4' '8 7 4' '40 0 8'; do
    cp clean.qed header.qed
    # shellcheck disable=SC2086 # offset, value, bytes
    poke header.qed $damage
    vd --output=json header.qed
    expect 4
    keys
    is '.images[0].status == "damaged"'
done
truncate -s 40 header.qed
one 4 -f qed header.qed
is '.images[0] | .virtual_size == null and .cluster_size == null and .clusters == null and .image_end_offset == null'
is '.images[0] | .format == "qed" and .file_size == 40 and .status == "damaged"'
one 8 nosuch
is '.images[0] | .path == "nosuch" and .status == "error" and .format == null and .file_size == null and .findings == []'
echo text >text
one 8 text
is '.images[0] | .path == "text" and .status == "unsupported" and .format == null'
one 8 -f raw clean.qed
is '.images[0] | .format == "raw" and .status == "unsupported" and .file_size == 786432'

# a header that cannot be read tells nothing, not even the format: an error and no finding, however it was named
for words in '' '-f qed'; do
    # shellcheck disable=SC2086 # words
    one 8 $words --fault=read:errno=EIO,offset=0,bytes=512 clean.qed
    is '.images[0] | .status == "error" and .findings == [] and (.error | contains("Input/output error"))'
    is '.images[0] | [.format, .virtual_size, .file_size, .cluster_size, .clusters, .image_end_offset] | all(. == null)'
done

# where a table could not be read its clusters are not known, and so not where the image ends
unreadable="--fault=read:errno=EIO,offset=$L2,bytes=4k"
one 12 $unreadable clean.qed
is '.images[0] | .status == "error" and .counts.errors == 1 and .image_end_offset == null'
vd --output=qemu-json --exit-code=qemu $unreadable clean.qed
expect 1
is '."check-errors" == 1 and (has("image-end-offset") | not)'
vd --output=qemu-json --exit-code=qemu clean.qed
expect 0
is '."image-end-offset" == 786432'

# a repair, its dry run, and what came of it
one 4 --repair=all --dry-run damaged.qed
is '.images[0].repair | .level == "all" and .dry_run and .verified and .undo_file == null'
is '.images[0] | .status == "damaged" and .counts.corruptions_fixed == 0 and all(.findings[]; .fixed == 0)'
one 1 --repair=all damaged.qed
is '.images[0].repair | .level == "all" and (.dry_run | not) and .verified and .undo_file == "damaged.qed.vdcheck-undo"'
is '.images[0].repair | .writes > 0 and .bytes_written > 0'
is '.images[0] | .status == "repaired" and .counts.corruptions_fixed == 1 and .counts.leaks_fixed == 1'
is 'all(.images[0].findings[]; .fixed == .count)'
is '.images[0] | .io.writes > 0 and .file_size == 720896'
one 0 --repair damaged.qed
is '.images[0].repair == null or .images[0].repair.writes == 0'
one 1 --repair --no-undo-file leaking.qed
is '.images[0].repair.undo_file == null'
out_of_file clean.qed damaged.qed
one 4 --repair damaged.qed
is '.images[0] | .status == "damaged" and .counts.corruptions_fixed == 0'

# leaks that stay and one that the repair makes of a fragment: each cluster at one place, and what is left is what the
# next check finds
shared clean.qed left.qed
head -c 200000 /dev/zero >>left.qed
one 4 --repair left.qed
is '.images[0] | .counts.leaks == 5 and .counts.leaks_fixed == 0 and .leaked_bytes == 5 * 65536'
# shellcheck disable=SC2016 # jq's variables
is '[.images[0].findings[] | select(.severity == "leak") | .places[] | [.host_offset, .host_offset + .host_bytes]] |
    sort | . as $r | all(range(1; length); $r[. - 1][1] <= $r[.][0])'
one 4 left.qed
is '.images[0] | .counts.leaks == 5 and .leaked_bytes == 5 * 65536'
cp clean.qed tail.qed        # two leaks, of which level leaks gives back the tail
truncate -s +65536 tail.qed
poke tail.qed $((L2 + 8)) 0
one 4 --repair=leaks tail.qed
is '.images[0] | .counts.leaks == 2 and .counts.leaks_fixed == 1 and .leaked_bytes == 65536'
one 4 tail.qed
is '.images[0].leaked_bytes == 65536'

# several images: one object, in the order in which they were named
vd --output=json clean.qed nosuch dirty.qed
expect 12
keys
is '[.images[].path] == ["clean.qed", "nosuch", "dirty.qed"]'
vd --output=json --if-dirty clean.qed
expect 0
keys
is '.images == []'

# the other commands' JSON is valid, too
for c in info map; do
    vd $c --output=json clean.qed
    expect 0
    is 'type == "object"'
done
vd salvage --output=json clean.qed out.raw
expect 0
is '.lost == [] and .lost_bytes == 0'
finish
