#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images whose guest data lies in an external data file: what QEMU writes we read, what we write it reads, both call the
# image clean, a raw data file holds by itself what the guest reads, and without the data file nothing is made up.
# shellcheck source=qcow2-functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/compare/qcow2-functions.sh"

both_clean()
{
    qemu_clean a.qcow2
    vd a.qcow2
    expect 0
    lacks out corruption
    lacks out extl2-
}

# matches_raw: the data file is the guest's disk, where it says so of itself
matches_raw()
{
    case $options in *data_file_raw=on*) cmp data.raw along.raw || fail "$options: the data file is not the disk" ;; esac
}

for options in cluster_size=64k cluster_size=4k extended_l2=on lazy_refcounts=on data_file_raw=on \
    extended_l2=on,data_file_raw=on cluster_size=512,data_file_raw=on; do
    rm -f a.qcow2* data.raw along.raw
    run timeout -k 5 60 qemu-img create -q -f qcow2 -o "data_file=data.raw,$options" a.qcow2 8M
    expect 0
    truncate -s 8M along.raw
    change qemu a.qcow2 'w 1 0 100k' 'w 2 1M 70k' 'w 3 8323072 64k' 'z 2M 128k'
    both_clean
    same_guest a.qcow2
    change ours a.qcow2 'w 4 10k 3k' 'w 5 5000k 300k' 'z 64k 30k' 'w 6 2050k 1k' 'z 5001k 2k' 'w 7 7M 1M' 's 12M' \
        'w 8 11M 70k'
    both_clean
    same_guest a.qcow2
    matches_raw
    change ours a.qcow2 's 2M'
    both_clean
    same_guest a.qcow2
    matches_raw
    change qemu a.qcow2 's 3M' 'w 9 2500k 10k'
    both_clean
    same_guest a.qcow2
done

# ---- a copy, and what is not there any more
rm -f out.raw ours.raw
vd salvage -q a.qcow2 out.raw
expect 0
cmp out.raw along.raw || fail "the copy is not the disk"
cp data.raw whole.raw
truncate -s 1M data.raw
rm out.raw
vd salvage a.qcow2 out.raw
expect 4
says out 'lost: '
cmp -n 1048576 out.raw along.raw || fail "what is there was not copied"
rm data.raw out.raw*
vd salvage a.qcow2 out.raw
expect 4
says out 'without its external data file: '
says out '0 bytes of data copied'
vd salvage --output=json a.qcow2 json.raw
says out '"data_file_problem": '
vd io -r -c 'read 0 4k' a.qcow2
expect 8
says err 'data file'
vd a.qcow2
expect 4
says out qcow2.data-file-missing

# ---- not writable, not the image itself
mv whole.raw data.raw
if [ "$(id -u)" != 0 ]; then
    chmod a-w data.raw
    vd io -c 'write -P 1 0 4k' a.qcow2
    expect 8
    chmod u+w data.raw
fi
finish
