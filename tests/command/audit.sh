#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Audits of a farm and the reports about it.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

pids=()
clean_up_more() { [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null; }

# settle: until no time stamp is so new that a later change could hide behind it
settle()
{
    sleep 0.1
}

# audit WORD...: of the farm, into db
audit()
{
    vd audit --db=db "$@" farm
}

# sql TEXT: what the sqlite3 shell answers; skipped where there is none
sql()
{
    sqlite3 db "$1"
}

mkdir -p farm/sub
sample farm/a.qed
leaking farm/a.qed farm/sub/leak.qed
settle

# ---- usage
vd audit
expect 16
vd audit --db=db --null farm
expect 16
vd audit --db= farm
expect 16
vd audit --db=:memory: farm
expect 16
for words in --repair=all --repair=most --undo-dir=x; do
    audit $words
    expect 16
done
for words in --shard=0/2 --shard=3/2 --shard=1 --keep=30 --keep=0d --timeout=x --timeout=-1 --max-memory=1M -j0; do
    audit $words
    expect 16
done
audit --host=
expect 16
vd report
expect 16
for words in --output=xml --output=qemu-json --status=bad --since=yesterday; do
    vd report $words db
    expect 16
done
[ ! -e db ] || fail "a usage error makes a database"

# ---- the first audit, and the second
audit
expect 4
says out 'leaking  '
says out 'farm/sub/leak.qed'
says out '2 images: 1 clean, 1 leaking'
says out '2 checked, 0 unchanged'
says out 'vdcheck --repair --dry-run '
silent err
audit
expect 4
says out '0 checked, 2 unchanged'
lacks out 'New since'
audit --full -j 3
expect 4
says out '2 checked, 0 unchanged'
audit -q
expect 4
silent out
silent err
vd audit --db=nosuch/db farm
expect 8
says err 'nosuch/db'
audit --no-sandbox --full
expect 4
says out '2 checked'

# ---- what changes is checked again, and told first
sample farm/new.qed
out_of_file farm/a.qed farm/sub/leak.qed
settle
audit
expect 4
says out 'New since the run before'
says out 'damaged  '
says out '(was leaking)'
says out '; 1 new'
says out '2 checked, 1 unchanged'
audit
lacks out 'New since'
says out '0 checked, 3 unchanged'
# the same length and time stamps, another header
touch -r farm/new.qed stamp
dirty farm/new.qed tmp
cat tmp >farm/new.qed
touch -r stamp farm/new.qed
settle
audit
says out '(was clean)'
says out '1 checked, 2 unchanged'
rm farm/new.qed
audit
lacks out new.qed
says out '2 images'
# a header that is lost is damage, no farewell
cp farm/a.qed farm/lost.qed
settle
audit
dd if=/dev/zero of=farm/lost.qed bs=4096 count=1 conv=notrunc status=none
settle
audit
expect 12
says out 'lost.qed  (was clean)'
audit --full # and the night after
says out 'lost.qed'
rm farm/lost.qed
audit
lacks out lost.qed
echo 'now a text' >farm/lost.qed
audit --full
lacks out lost.qed
rm farm/lost.qed
# an undo file beside it: a repair may have been cut off
touch farm/a.qed.vdcheck-undo
audit
says out '1 checked, 1 unchanged'
rm farm/a.qed.vdcheck-undo
audit
lacks out lost.qed
says out '0 checked, 2 unchanged'

# repairs that were cut off, one with its undo file elsewhere
mkdir cut undo
leaking farm/a.qed cut/beside.qed
leaking farm/a.qed cut/away.qed
vd --repair --fault=write:cut=1 cut/beside.qed
vd --repair --undo-file=undo/file --fault=write:cut=1 cut/away.qed
settle
vd audit --db=repair.db cut
expect 4
says out '2 images: 2 dirty'
[ "$(grep -c image.repair-unfinished "$told/out")" = 2 ] || fail "unfinished repairs"
vd --repair cut/beside.qed cut/away.qed
vd audit --db=repair.db cut
expect 0
says out '(was dirty)'

# ---- chains: each file once; a base that goes changes its overlays
"$VDCHECK" create -f qcow2 -b a.qed -F qed farm/top.qcow2 8G
"$VDCHECK" create -f qcow2 -b a.qed -F qed farm/top2.qcow2 8G
settle
audit
says out '2 checked, 2 unchanged'
vd report --output=json --path='top*' db
expect 0
[ "$(grep -c '"state": "found"' "$told/out")" = 2 ] || fail "backing files"
mv farm/a.qed farm/b.qed
settle
audit
says out '3 checked'
vd report --output=json --path='top.qcow2' db
says out 'image.backing-missing'
says out '"state": "missing"'
mv farm/b.qed farm/a.qed
settle
audit
audit
says out '0 checked'

# ---- what is found, and what is not
mkdir shy
sample 'shy/one
two.qed'
cp shy/one* "$(printf 'shy/\377<b>&"'\''.qed')"
cp shy/one* 'shy/-rf.qed'
ln shy/-rf.qed shy/same.qed
ln -s -- -rf.qed shy/link.qed
mkfifo shy/fifo.qed
cp shy/-rf.qed shy/gone.qed.vdcheck-undo
echo 'just text' >shy/text.qed
"$VDCHECK" -q --map=shy/map.db shy/-rf.qed
settle
vd audit --db=shy.db shy
expect 0
says out '3 images: 3 clean'
vd audit --db=shy.db --exclude='*<b>*' --include='*.qed' --full shy
says out '2 checked'
printf '%s\0' shy/one* | vd audit --db=from.db --files-from=- --null --full
says out 'No images' # standard input was none
printf '%s\0' shy/one* shy/text.qed nosuch >list
vd audit --db=from.db --files-from=list --null
expect 8
says out '2 images: 1 clean, 1 unsupported'
says err 'nosuch: cannot be found'
vd audit --db=from.db --files-from=nosuch
expect 8
printf 'shy/-rf.qed\n\nshy/text.qed\n' >list
vd audit --db=from2.db --files-from=list --exclude='text*'
expect 0
says out '1 image: 1 clean'
head -c 1M /dev/zero >shy/disk.raw
vd audit --db=raw.db --raw --exclude='*.qed' shy
expect 8 # as `vdcheck --format=raw` says
says out '1 unsupported; 1 raw'
lacks out 'unsupported  '
vd report --output=nagios raw.db
expect 0
rm shy/disk.raw
printf 'a\0b' >list
vd audit --db=from.db --files-from=list
expect 16
if can_be_nobody && [ "$(id -u)" -eq 0 ]; then
    mkdir -m 777 state
    chmod 600 shy/-rf.qed
    mkdir -m 700 shy/shut
    chmod 755 shy
    run as_nobody env XDG_STATE_HOME="$PWD/state" "$VDCHECK" audit shy
    expect 8
    says err 'shy/shut: cannot open the folder'
    says err 'shy/-rf.qed: cannot open'
    says out 'Last run'
    says out '3 paths could not be looked at' # one of them by two names
    lacks out 'All well'
    [ -s state/vdcheck/audit.db ] || fail "no database where XDG_STATE_HOME says"
    chmod 644 shy/-rf.qed
    rmdir shy/shut
fi

# other file systems, and a folder in two places; in a mount name space of their own
mkdir -p mounts/a mounts/b mounts/c
cp farm/a.qed mounts/a/
if unshare -m mount -t tmpfs none mounts/c 2>/dev/null; then
    # shellcheck disable=SC2016 # variables of the inner shell
    run unshare -m bash -c 'mount --bind mounts/a mounts/b && mount -t tmpfs none mounts/c && cp farm/a.qed mounts/c/ &&
        "$VDCHECK" audit --db=mounts.db mounts && "$VDCHECK" audit --db=mounts2.db --one-file-system mounts'
    expect 0
    says out '2 images: 2 clean'
    says out '1 image: 1 clean'
else
    skip_part "nothing can be mounted here"
fi

# ---- the page cache is left as it was, where there is one
cached() { fincore -n -o PAGES "$1" | tr -d ' '; }
disk=$(mktemp -d /var/tmp/vdcheck-test.XXXXXX)
clean_up_more() { [ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null; rm -rf "$disk"; }
drop_cache() { dd if="$1" oflag=nocache conv=notrunc,fdatasync of="$1" count=0 status=none && dd if="$1" iflag=nocache count=0 status=none; }
cp farm/a.qed "$disk/cold.qed"
cp farm/a.qed "$disk/warm.qed"
echo small >"$disk/small"
settle
vd audit --db=cache.db "$disk"
sync "$disk"/*
drop_cache "$disk/cold.qed"
cat "$disk/warm.qed" >/dev/null
if has_command fincore && [ "$(cached "$disk/cold.qed")" = 0 ] && [ "$(cached "$disk/warm.qed")" -gt 0 ]; then
    before=$(cached "$disk/warm.qed")
    vd audit --db=cache.db "$disk"
    says out '0 checked, 2 unchanged'
    [ "$(cached "$disk/cold.qed")" = 0 ] || fail "what was not in the page cache is there now"
    [ "$(cached "$disk/small")" = 1 ] || fail "a small file is in the page cache no more"
    [ "$(cached "$disk/warm.qed")" = "$before" ] || fail "what was in the page cache is there no more"
    # a check reads more, and so does one of a shard
    for words in --full '--full --shard=1/1'; do
        # shellcheck disable=SC2086 # words
        vd audit --db=cache.db $words "$disk"
        says out '2 checked, 0 unchanged'
        [ "$(cached "$disk/cold.qed")" = 0 ] || fail "what was not in the page cache is there after a check: $(cached "$disk/cold.qed")"
        [ "$(cached "$disk/small")" = 1 ] || fail "a small file is in the page cache no more after a check"
        [ "$(cached "$disk/warm.qed")" = "$before" ] || fail "what was in the page cache is there no more after a check"
    done
    # where half of an image was in it, that half stays
    head -c 131072 "$disk/cold.qed" >/dev/null
    half=$(cached "$disk/cold.qed")
    vd audit --db=cache.db --full "$disk"
    [ "$(cached "$disk/cold.qed")" = "$half" ] || fail "half in the page cache: $half before, $(cached "$disk/cold.qed") after"
else
    skip_part "no page cache to look into"
fi

# ---- names are text in every output
for o in human json html prometheus junit sarif nagios csv; do
    vd report --output=$o shy.db
    expect 0
    [ $o != junit ] || lacks out '<b>'
    ! grep -q "$(printf '\377')" "$told/out" || fail "$o: a byte that is no UTF-8"
    cp "$told/out" "shy.$o"
done
grep -q 'path_base64' shy.json || fail "a name that is no UTF-8 in JSON"
if has_command xmllint; then holds "JUnit" xmllint --noout --nonet --schema "$srcdir/tests/outputs/junit.xsd" shy.junit; fi
if has_command promtool; then holds "metrics" sh -c 'promtool check metrics <shy.prometheus'; fi
if has_command jq; then
    holds "JSON" jq -e '.images | length == 3' shy.json
    holds "SARIF" jq -e '.version == "2.1.0" and (.runs[0].results | length == 0)' shy.sarif
fi

# ---- busy, and busy without keeping anybody out
"$VDCHECK" io -q -c 'sleep 600000' farm/a.qed >held 2>&1 &
pids+=($!)
if wait_for 10 grep -q "OFDLCK.*:$(stat -c %i farm/a.qed) " /proc/locks; then
    audit --full
    expect 68
    says out '1 busy'
    vd report --output=nagios db
    expect 2
    kill -KILL "${pids[0]}"
    wait "${pids[0]}" 2>/dev/null
    pids=()
    audit
    says out '1 checked' # what was busy is looked at again
    # a writer comes while the audit reads, and is let in
    "$VDCHECK" audit --db=db --full --throttle=iops=4 farm >slow 2>&1 &
    pids=($!)
    wait_for 10 grep -q "OFDLCK.*READ.*:$(stat -c %i farm/a.qed) " /proc/locks || fail "the audit does not lock"
    "$VDCHECK" io -q -c 'write -P 7 0 64k' -c 'sleep 600000' farm/a.qed >held 2>&1 &
    pids+=($!)
    wait "${pids[0]}"
    [ ! -s held ] || fail "the audit kept a writer out: $(cat held)"
    grep -q '1 busy' slow || fail "a writer that came meanwhile: $(cat slow)"
    kill -KILL "${pids[1]}"
    wait "${pids[1]}" 2>/dev/null
    pids=()
    vd audit --db=slow.db farm
    lacks out busy
else
    kill -KILL "${pids[0]}"
    pids=()
    skip_part "no OFD locks in /proc/locks"
fi

# ---- workers that die, hang, or want too much
rm -rf many
mkdir many
for i in {0..9}; do cp farm/a.qed "many/$i.qed"; done
vd audit --db=hang.db -j 4 --timeout=1 --throttle=iops=1 many
expect 8
says out 'took longer than 1 s'
settle
"$VDCHECK" audit --db=kill.db -j 1 --throttle=iops=2 many >slow 2>&1 &
pids+=($!)
# the worker is the only child
worker=
# shellcheck disable=SC2317 # called by wait_for
find_worker() { worker=$(cat /proc/"${pids[0]}"/task/"${pids[0]}"/children) && [ -n "$worker" ]; }
if wait_for 10 find_worker; then
    # shellcheck disable=SC2086 # one number
    kill -KILL $worker
    sleep 0.2
    kill -TERM "${pids[0]}"
    wait "${pids[0]}"
    status=$?
    pids=()
    [ $((status & 32)) -eq 32 ] || fail "status $status of a cancelled audit"
    grep -q 'died of signal 9' slow || fail "a worker that died: $(cat slow)"
    grep -q 'was cut off' slow || fail "an audit that was not finished does not say so"
fi

# ---- cut off, and gone on with
# shellcheck disable=SC2317 # called by wait_for
has_result() { "$VDCHECK" report --output=csv "$1" | grep -q many/; }
for how in TERM KILL; do
    rm -f cut.db*
    "$VDCHECK" audit --db=cut.db --full --throttle=iops=8 many >cut.out 2>&1 &
    pids+=($!)
    wait_for 60 has_result cut.db || fail "no result is kept while the audit runs"
    kill -$how "${pids[0]}"
    wait "${pids[0]}" 2>/dev/null
    pids=()
    vd audit --db=cut.db --full --resume many
    expect 0
    says out '10 images: 10 clean'
    matches out '^[1-9] checked, [1-9] unchanged'
    vd audit --db=cut.db --full --resume many
    says out '10 checked'
    vd report --output=json cut.db
    [ "$(grep -c '"path"' "$told/out")" = 10 ] || fail "results after $how"
done

# ---- a kill at any moment leaves a database that goes on
rm -f cut.db*
for delay in 0.01 0.02 0.03 0.05 0.08 0.13 0.21 0.34; do
    "$VDCHECK" audit --db=cut.db --full -j 2 --throttle=iops=100 many farm >cut.out 2>&1 &
    pids+=($!)
    sleep $delay
    kill -KILL "${pids[0]}" 2>/dev/null
    wait "${pids[0]}" 2>/dev/null
    pids=()
done
vd audit --db=cut.db many
expect 0
says out '10 images: 10 clean'

# ---- two at once on one database
"$VDCHECK" audit --db=two.db --throttle=iops=2 many >slow 2>&1 &
pids+=($!)
wait_for 10 test -s two.db
vd report two.db # may be read meanwhile
[ "$status" -lt 8 ] || fail "a report while an audit runs"
vd audit --db=two.db many
expect 8
says err 'another audit'
kill -TERM "${pids[0]}"
wait "${pids[0]}"
pids=()

# ---- a full disk
( ulimit -f 16; exec "$VDCHECK" audit --db=full.db many ) >"$told/out" 2>"$told/err"
status=$?
ran='audit with a limit on file sizes'
[ $((status & 8)) -eq 8 ] || fail "status $status on a full disk"
says err full.db

# ---- shards, and their sum
cp -a farm many2
for n in 1 2 7; do
    dbs=()
    for ((i = 1; i <= n; i++)); do
        vd audit --db=s$n.$i.db --shard=$i/$n many many2
        dbs+=("s$n.$i.db")
    done
    for o in json junit sarif csv nagios prometheus human; do
        vd report --output=$o "${dbs[@]}"
        lacks out 'missing'
        # what differs is when and how long
        sed -E 's/"(run|checked_at|seconds)": .*//; s/ time="[^"]*"//; s/"[0-9.TZ]*-[0-9a-f]{8}",[0-9]+//; s/^(vdcheck_(last|run)|Last).*//' \
            "$told/out" >s$n.$o
        [ $n = 1 ] || same s1.$o s$n.$o
    done
done
cp "$told/out" sum
vd report s7.7.db s7.1.db s7.2.db s7.2.db s7.6.db s7.3.db s7.5.db s7.4.db s7.7.db
same "$told/out" sum
vd report s7.1.db s7.3.db s7.4.db s7.5.db s7.6.db s7.7.db
says out 'shard 2 of 7 is missing'
vd report s2.2.db s7.{1,2,3,4,5,6,7}.db
says out 'is of another audit'
# a job array's task knows its shard
for i in 1 2; do
    run env SLURM_ARRAY_TASK_ID=$((10 + 5 * i)) SLURM_ARRAY_TASK_MIN=15 SLURM_ARRAY_TASK_STEP=5 SLURM_ARRAY_TASK_COUNT=2 \
        "$VDCHECK" audit --db=slurm$i.db many many2
    run env JOB_COMPLETION_INDEX=$((i - 1)) VDCHECK_SHARDS=2 "$VDCHECK" audit --db=kube$i.db many many2
    vd report --output=csv s2.$i.db
    cut -d, -f2-5 "$told/out" >part
    for kind in slurm kube; do
        vd report --output=csv $kind$i.db
        cut -d, -f2-5 "$told/out" >"part.$kind"
        same part "part.$kind"
    done
done
run env JOB_COMPLETION_INDEX=0 "$VDCHECK" audit --db=kube.db many
expect 16
run env SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_COUNT=4 "$VDCHECK" audit --db=slurm.db many
expect 16
run env SLURM_ARRAY_TASK_ID=9 "$VDCHECK" audit --db=slurm.db --shard=1/1 many
expect 0
# an overlay lies in the shard of its base
for ((i = 1; i <= 7; i++)); do
    vd report --output=csv s7.$i.db
    bases=$(grep -c 'many2/a.qed' "$told/out")
    [ "$(grep -c 'many2/top' "$told/out")" = $((2 * bases)) ] || fail "a chain is torn apart"
done

# ---- under one name, whatever the machine's is
vd audit --db=named.db --host=a-farm many
vd report --host=a-farm --output=csv named.db
[ "$(grep -c '^"a-farm",' "$told/out")" = 10 ] || fail "--host"

# ---- filters and exit status
vd report db
worst=$status
vd report --exit-zero db
expect 0
vd report --status=clean db
expect 0
lacks out leak.qed
vd report --host=elsewhere db
expect 0
says out 'No images'
vd report --path='*/sub/*' --output=csv db
expect 4
[ "$(grep -c qed "$told/out")" = 1 ] || fail "--path"
vd report --since=@99999999999 db
says out 'No images'
vd report --since=2020-01-01 db
expect "$worst"
vd report nosuch
expect 8
vd report --output=nagios nosuch
expect 3
vd report farm/a.qed
expect 8
says err farm/a.qed

# ---- the tables, as others see them
if has_command sqlite3; then
    [ "$(sql 'SELECT count(*) FROM image WHERE NOT is_gone')" = 4 ] || fail "images in the table"
    [ "$(sql 'SELECT count(*) FROM chain JOIN image ON image.id = base_id WHERE image.path LIKE "%/a.qed"')" = 2 ] || fail "bases in the table"
    # the questions of the manual, as they stand there
    page=${MANUALS:-${VDCHECK%/*}}/vdcheck.1
    if [ -e "$page" ]; then
        sed -n '/^-- /,/^\.EE/p' "$page" | sed '/^\.EE/d; s/\\-/-/g' >questions
        [ "$(grep -c '^--' questions)" = 5 ] || fail "not five questions in the manual"
        run sqlite3 -bail db '.read questions'
        expect 0
        says out sub/leak.qed
        silent err
    fi
    before=$(sql 'SELECT count(*) FROM result')
    sql 'UPDATE result SET checked_at = 1000'
    audit --keep=30d
    [ "$(sql 'SELECT count(*) FROM result')" -lt "$before" ] || fail "nothing was forgotten"
    vd report --output=csv db
    [ "$(grep -c /farm/ "$told/out")" = 4 ] || fail "too much was forgotten"
    sql 'PRAGMA user_version = 99'
    audit
    expect 8
    says err 'newer vdcheck'
    vd report db
    expect 8
else
    skip_part "no sqlite3"
fi

# ---- many files in one folder, most of them no images
mkdir crowd
for ((i = 0; i < 2000; i++)); do : >crowd/$i; done
cp farm/a.qed crowd/1000
vd audit --db=crowd.db crowd
says out '1 image: 1'

finish
