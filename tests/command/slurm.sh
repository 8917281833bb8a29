#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The job array of report/contrib on a Slurm of one node, all of it on loopback and in a folder of its own: what it reports
# is what an audit in one piece does. Part of check-long.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

[ "${VDCHECK_LONG:-0}" != 0 ] || skip 'only in check-long'
PATH=$PATH:/usr/sbin
for program in slurmctld slurmd sbatch squeue munged jq; do
    has_command $program || skip "no $program (Debian: slurm-wlm, munge, jq)"
done
[ "$(id -u)" -eq 0 ] || skip 'slurmd starts jobs as their users: root is needed'

pids=()
clean_up_more()
{
    local pid

    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null
    done
}

# daemon COMMAND...: in the background, until the end
daemon()
{
    "$@" >>daemons.log 2>&1 &
    pids+=($!)
}

# ---- a cluster
node=$(hostname -s)
here=$PWD
port=$((20000 + $$ % 20000))
chmod 711 "$scratch" "$scratch/work"
mkdir -m 700 munge
mkdir -m 711 socket
mkdir -m 755 state spool
head -c 1024 /dev/urandom >munge/key
chmod 600 munge/key
export SLURM_CONF=$here/slurm.conf
cat >slurm.conf <<END
ClusterName=vdcheck-test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$here/socket/munge
CredType=cred/munge
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
MinJobAge=300
SchedulerParameters=sched_interval=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
daemon munged --foreground --force --socket="$here/socket/munge" --key-file="$here/munge/key" --pid-file="$here/munge/pid" \
    --log-file="$here/munge/log" --seed-file="$here/munge/seed" --num-threads=2
wait_for 20 test -S socket/munge || skip "munged does not start: $(tail -n 1 daemons.log)"
daemon slurmctld -D
# No job is put into a cgroup; yet slurmd wants a plugin that goes with the machine, and from 23.02 on takes none, too.
for plugin in disabled cgroup/v2 cgroup/v1; do
    echo "CgroupPlugin=$plugin" >cgroup.conf
    daemon slurmd -D -N "$node"
    sleep 2
    kill -0 "${pids[-1]}" 2>/dev/null && break
done
# shellcheck disable=SC2317 # called by wait_for
is_up() { sinfo -h -o %T | grep -qE 'idle|mixed'; }
wait_for 60 is_up || skip "the cluster does not come up: $(tail -n 2 slurmctld.log slurmd.log 2>&1 | tr '\n' ' ')"

# ---- a farm: damage, chains
mkdir farm
sample farm/clean.qed
leaking farm/clean.qed farm/leaking.qed
shared farm/clean.qed farm/shared.qed
tail_leaking farm/clean.qed farm/tail.qed
for i in {1..8}; do
    cp farm/clean.qed "farm/base$i.qed"
    "$VDCHECK" create -f qcow2 -b "base$i.qed" -F qed "farm/top$i.qcow2" 8G
done
sleep 0.1

# shellcheck disable=SC2317 # called by wait_for
is_over() { [ -z "$(squeue -h)" ]; }
# array: the array and its merge, to their end
array()
{
    run env RESULTS="$here/results" SHARDS=3 VDCHECK="$VDCHECK" "$srcdir/report/contrib/vdcheck-slurm.sh" "$here/farm"
    expect 0
    wait_for 180 is_over || fail "the jobs do not end: $(squeue)"
}

# plain FILE: a JSON report without what differs by time and run
plain()
{
    jq 'del(.images[] | .run, .checked_at, .seconds)' "$1"
}

array
[ -e results/report.json ] || fail "no report: $(cat results/*.log)"
"$VDCHECK" audit -q --db=one.db --host=farm --keep=90d farm
"$VDCHECK" report --output=json --exit-zero one.db >one.json
plain one.json >expected
plain results/report.json >merged
same expected merged
[ "$(jq '.images | length' results/report.json)" = 20 ] || fail "images in the report"
[ "$(find results -name 'shard-*-of-3.db' | wc -l)" = 3 ] || fail "a database for each shard"
jq -e '.notes == []' results/report.json >/dev/null || fail "notes: $(jq .notes results/report.json)"
grep -q '^vdcheck_images{' results/report.prom || fail "no report for Prometheus"

# ---- the night after nothing is checked again, and what has changed is news
out_of_file farm/clean.qed farm/base3.qed
sleep 0.1
array
grep -h ' checked, ' results/task-*.log >effort
[ "$(awk '{ n += $1 } END { print n }' effort)" = 1 ] || fail "checked again: $(cat effort)"
grep -q 'base3.qed  (was clean)' results/report.txt || fail "$(cat results/report.txt)"

# ---- a task that is lost is missed
rm results/shard-2-of-3.db
run env RESULTS="$here/results" SHARDS=3 VDCHECK="$VDCHECK" "$srcdir/report/contrib/vdcheck-slurm.sh" --merge
expect 0
grep -q 'shard 2 of 3 is missing' results/report.txt || fail "$(cat results/report.txt)"
finish
