#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Audits a farm that many machines see, as a job array of Slurm, and merges what the tasks found.
#
#     RESULTS=/shared/vdcheck SHARDS=32 vdcheck-slurm.sh /srv/images...
#
# submits the array and, behind it, the merge; the task and the merge are this script, too. SHARDS (8) is the number of
# tasks, AT_ONCE (all) how many run at a time, FARM (farm) what the images are kept under in place of a machine's name,
# SBATCH_OPTIONS more words for sbatch (--partition=...), VDCHECK the program.
#
# Each task has a database of its own in RESULTS, which it works on in a folder of its machine: SQLite's locks are not for
# network file systems. The report is RESULTS/report.txt, with report.json and report.prom beside it.
#SBATCH --job-name=vdcheck
#SBATCH --requeue
set -u
umask 077
vdcheck=${VDCHECK:-vdcheck}
shards=${SHARDS:-8}
results=${RESULTS:?names the folder for the results, which all machines see}

# name I: the database of a shard; another division of the farm has other names
name()
{
    printf '%s/shard-%s-of-%s.db' "$results" "$1" "$shards"
}

submit()
{
    local array

    mkdir -p "$results" || exit
    # shellcheck disable=SC2086 # words
    array=$(sbatch --parsable --array="1-$shards${AT_ONCE:+%$AT_ONCE}" --signal=B:TERM@120 --output="$results/task-%a.log" \
        ${SBATCH_OPTIONS-} "$0" "$@") || exit
    # shellcheck disable=SC2086
    sbatch --parsable --dependency="afterany:${array%%;*}" --output="$results/merge.log" \
        ${SBATCH_OPTIONS-} "$0" --merge
}

# The part is that of SLURM_ARRAY_TASK_ID. What the last run knows is brought along, so that what has not changed is
# passed over; what was finished is brought back also where the time was up.
task()
{
    local kept here status pid

    kept=$(name "$SLURM_ARRAY_TASK_ID")
    here=$(mktemp -d "${TMPDIR:-/tmp}/vdcheck.XXXXXX") || exit
    trap 'rm -rf "$here"' EXIT
    [ ! -e "$kept" ] || cp "$kept" "$here/audit.db" || exit
    "$vdcheck" audit --db="$here/audit.db" --host="${FARM:-farm}" --resume --keep=90d --throttle=bps=50M --no-progress "$@" &
    pid=$!
    trap 'kill -TERM $pid' TERM
    wait $pid
    status=$?
    # The signal ends the first wait only.
    while kill -0 $pid 2>/dev/null; do
        wait $pid
        status=$?
    done
    cp "$here/audit.db" "$kept.new" && mv "$kept.new" "$kept" || exit
    # Images with problems are no failure of the task; a task that was cut off is one (usage 16, cancelled 32).
    exit $((status & 48))
}

# A shard that is not there is named in the report.
merge()
{
    local dbs=() i output

    for ((i = 1; i <= shards; i++)); do
        [ ! -e "$(name $i)" ] || dbs+=("$(name $i)")
    done
    for output in human:txt json:json prometheus:prom; do
        "$vdcheck" report --output="${output%:*}" --exit-zero "${dbs[@]}" >"$results/report.new" &&
            mv "$results/report.new" "$results/report.${output#*:}" || exit
    done
}

if [ "${1-}" = --merge ]; then
    merge
elif [ -n "${SLURM_ARRAY_TASK_ID-}" ]; then
    task "$@"
else
    submit "$@"
fi
