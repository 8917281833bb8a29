#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The cluster-usage map: for people, as JSON, and as the tables of a SQLite file.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

sample a.qed
vd map a.qed
expect 0
silent err
says out 'H1111#2222##'
matches out 'header +1 clusters +64 KiB'
matches out 'L1 table +4 clusters +256 KiB'
matches out 'L2 table +4 clusters +256 KiB'
matches out 'data +3 clusters +192 KiB'
matches out '0x60000 +0x9ffff +256 KiB +L2 table +1'

leaking a.qed leak.qed
vd map leak.qed
expect 0                # what was found is said by a check
says out 'H1111#2222.#'
matches out '0xa0000 +0xaffff +64 KiB +leaked +0'
shared a.qed shared.qed
vd map shared.qed
says out 'H1111!2222.#'
matches out '0x50000 .* more than one'

# a file of many clusters is drawn to scale, and its runs end somewhere
"$VDCHECK" create -f qed -o cluster_size=4k,table_size=1 many.qed 1G
commands=()
for ((i = 0; i < 100; i++)); do
    commands+=(-c "write -P 1 $((i * 8192)) 4k")
done
"$VDCHECK" io -q "${commands[@]}" -c 'write -P 2 512M 16M' many.qed
table=$(peek many.qed 4096)
for ((i = 1; i < 100; i += 2)); do       # every other one of them lost
    poke many.qed $((table + 16 * i)) 0
done
vd map many.qed
expect 0
[ "$(grep -cE '^  [H12#.!]{1,64}$' "$told/out")" -eq 8 ] || fail "not eight rows"
says out 'runs more (--verbose'
vd map -v many.qed
expect 0
lacks out 'runs more'

# as JSON: the runs follow each other and cover the file
vd map --output=json leak.qed
expect 0
for key in path format cluster_size complete allocated_clusters fragmented_clusters holders runs offset bytes kind refs; do
    says out "\"$key\":"
done
if has_command jq; then
    jq -e '.complete and .cluster_size == 65536 and ([.runs[].bytes] | add) == 786432' <"$told/out" >"$told/err" ||
        fail "the runs do not add up to the file"
    jq -e '[.runs[] | .offset as $o | .bytes as $b | [$o, $o + $b]] | . as $r |
        all(range(1; length); $r[. - 1][1] == $r[.][0])' <"$told/out" >"$told/err" || fail "the runs leave gaps"
    jq -e '[.runs[] | select(.kind == "leaked")] == [{"offset": 655360, "bytes": 65536, "kind": "leaked", "refs": 0}]' \
        <"$told/out" >"$told/err" || fail "the leaked run"
else
    skip_part "no jq to read JSON with"
fi

# who owns every cluster, for those who ask
vd map --owners a.qed
expect 0
[ "$(grep -c '0x10000000' "$told/out")" -ge 1 ] || fail "--owners does not say which guest offset owns a cluster"
vd map --owners --output=json a.qed
expect 0
says out 268435456

# no walk, no map; the message says where to look
truncate -s 40 short.qed
printf 'QED\0' | dd of=short.qed conv=notrunc status=none
vd map short.qed
[ "$status" -ne 0 ] || fail "a map without a walk"
says err short.qed

# a table that could not be read: a map of the rest, which is stored as well, and an error
for words in '' --output=json --owners --map=incomplete.db; do
    # shellcheck disable=SC2086 # words
    vd map $words --fault=read:errno=EIO,offset=$L2,bytes=4k a.qed
    expect 8
done
says out 'INCOMPLETE'
[ -s incomplete.db ] || fail "--map=FILE wrote nothing of an incomplete map"

# kept in a file
for words in 'map --map=m.db a.qed' '--map=m2.db a.qed' '--map=m3.db -q leak.qed'; do
    # shellcheck disable=SC2086 # words
    vd $words
done
[[ -s m.db && -s m2.db && -s m3.db ]] || fail "--map=FILE wrote nothing"
vd --map=m4.db a.qed leak.qed shared.qed
expect 4
vd --map=m4.db a.qed
expect 0
vd --map=nosuch/m.db a.qed
expect 8
matches err 'nosuch/m.db'
cp a.qed before
vd --map=before a.qed
expect 8                # not ours: never overwritten
same a.qed before
vd --map=/dev/full a.qed
expect 8
if has_command sqlite3; then
    # sql FILE QUERY RESULT
    sql()
    {
        run sqlite3 "$1" "$2"
        [ "$(cat "$told/out")" = "$3" ] || fail "$2: expected $3"
    }
    for db in m.db m2.db; do
        sql $db 'SELECT count(*) FROM image' 1
        sql $db 'SELECT format, virtual_size, file_size, cluster_size, status FROM image' 'qed|8589934592|786432|65536|clean'
        sql $db 'SELECT count(*) FROM finding' 0
        sql $db 'SELECT sum(count) FROM usage_run' 12
        sql $db 'SELECT count(*) FROM claim' 0
        sql $db 'PRAGMA integrity_check' ok
    done
    sql m3.db 'SELECT status FROM image' leaking
    sql m3.db 'SELECT finding, severity, host_offset FROM finding' 'qed.cluster-leaked|leak|655360'
    sql m4.db 'SELECT count(DISTINCT path) FROM image' 3
    sql m4.db "SELECT count(*) > 0 FROM finding f JOIN image i ON i.id = f.image_id WHERE f.finding = 'qed.l2-entry-shared'
               AND i.path LIKE '%shared.qed'" 1
    sql m4.db 'SELECT count(*) FROM claim WHERE cluster = 5' 2
    sql m4.db 'SELECT group_concat(reference_offset) FROM (SELECT reference_offset FROM claim ORDER BY 1)' '393216,393224'
    vd map --map=m5.db many.qed
    sql m5.db "SELECT sum(count), sum(CASE WHEN refs = 0 THEN count END) FROM usage_run" "$(($(size_of many.qed) / 4096))|50"
    # a database of something else is left alone, an undo file above all
    cp leak.qed own.qed
    vd --repair own.qed
    cp own.qed.vdcheck-undo before
    vd --map=own.qed.vdcheck-undo own.qed
    [ $((status & 8)) -eq 8 ] || fail "a map in the undo file: exit status $status"
    same own.qed.vdcheck-undo before
    # one that somebody holds is no busy image
    vd --map=held.db a.qed
    { echo 'BEGIN EXCLUSIVE;'; sleep 20; } | sqlite3 held.db &
    while run sqlite3 held.db 'BEGIN IMMEDIATE' && [ "$status" -eq 0 ]; do sleep 0.1; done
    vd --map=held.db a.qed
    expect 8
    says err 'held.db: database is locked'
    kill %% 2>/dev/null
    wait

    run sqlite3 other.db 'CREATE TABLE mine(x)'
    cp other.db before
    vd --map=other.db a.qed
    [ $((status & 8)) -eq 8 ] || fail "a map in a database of something else: exit status $status"
    same other.db before

    # after a repair it is the map of what the repair left, and of a dry run that of the image as it is
    state='SELECT * FROM usage_run; SELECT * FROM claim; SELECT virtual_size, file_size, mtime_ns, metadata_xxh FROM image'
    for kind in leaking tail_leaking shared out_of_file dirty; do
        for level in safe all; do
            rm -f r.qed* r.db check.db before.db dry.db
            $kind a.qed r.qed
            head -c 1000 /dev/zero >>r.qed
            vd --map=before.db r.qed
            vd --repair=$level --dry-run --map=dry.db r.qed
            run sqlite3 before.db "$state; SELECT status FROM image; SELECT * FROM finding"
            cp "$told/out" before
            run sqlite3 dry.db "$state; SELECT status FROM image; SELECT * FROM finding"
            same before "$told/out"
            vd --repair=$level --map=r.db r.qed
            vd --map=check.db r.qed
            run sqlite3 check.db "$state"
            cp "$told/out" check
            run sqlite3 r.db "$state"
            same check "$told/out"
        done
    done
else
    skip_part "no sqlite3 to read the map with"
fi
finish
