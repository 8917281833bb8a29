# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the scripts that run whole commands share: a folder of their own that goes away, a way to run vdcheck and
# look at what came out, pokes into images, and a verdict at the end.
#
# A script sources this file, calls `run`, `expect` and `says`, and ends with `finish`. A check that fails prints
# what was run and what came out and goes on, so that one run shows all that is wrong.

set -u
export LC_ALL=C
unset NO_COLOR CDPATH
: "${VDCHECK:?names the vdcheck to test}"

# A sanitizer's verdict must not look like an exit status of ours.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}exitcode=99"
export LSAN_OPTIONS="${LSAN_OPTIONS:+$LSAN_OPTIONS:}exitcode=99"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}exitcode=99"

C=65536       # cluster size of `sample`
L1=0x10000    # and its tables
L2=0x60000

failures=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/vdcheck-test.XXXXXX") || exit 99
clean_up_more() { :; }
clean_up()
{
    clean_up_more
    chmod -R u+rwx "$scratch" 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 99' HUP INT TERM
cd "$scratch" || exit 99
mkdir .told work
told=$scratch/.told
cd work || exit 99

# skip REASON: the whole script cannot run here.
skip()
{
    echo "skipped: $*"
    exit 77
}

# skip_part REASON: what follows in this script cannot.
skip_part()
{
    echo "skipped in part: $*"
}

has_command()
{
    command -v "$1" >/dev/null 2>&1
}

# run COMMAND...: runs it; leaves $status and the files $told/out and $told/err behind.
run()
{
    ran="$*"
    "$@" >"$told/out" 2>"$told/err" </dev/null
    status=$?
}

# vd WORD...: runs vdcheck; a hang is a failure.
vd()
{
    run timeout -k 5 120 "$VDCHECK" "$@"
    ran="vdcheck $*"
    if [ "$status" -eq 99 ] || [ "$status" -ge 124 ]; then
        fail "crashed, hung or tripped a sanitizer (status $status)"
    fi
}

fail()
{
    failures=$((failures + 1))
    echo "FAIL (${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}): $*"
    echo "    ran: ${ran-nothing}  -> ${status-}"
    [ -s "$told/out" ] && head -n 15 "$told/out" | sed 's/^/    out: /'
    [ -s "$told/err" ] && head -n 15 "$told/err" | sed 's/^/    err: /'
    return 0
}

# expect STATUS: the exit status of the last run.
expect()
{
    [ "$status" -eq "$1" ] || fail "exit status $status, expected $1"
}

# says out|err TEXT: the last run's output has it, word by word.
says()
{
    grep -qF -e "$2" "$told/$1" || fail "standard $1 lacks: $2"
}

# matches out|err REGEX
matches()
{
    grep -qE -e "$2" "$told/$1" || fail "standard $1 has no match of: $2"
}

lacks()
{
    if grep -qF -e "$2" "$told/$1"; then
        fail "standard $1 has, and should not: $2"
    fi
}

silent()
{
    [ ! -s "$told/$1" ] || fail "standard $1 is not empty"
}

# holds WHAT COMMAND...: the command succeeds, or WHAT is not so.
holds()
{
    local what=$1

    shift
    "$@" >/dev/null 2>&1 || fail "$what"
}

# holds_not WHAT COMMAND...: the command fails, or WHAT is so though it should not.
holds_not()
{
    local what=$1

    shift
    if "$@" >/dev/null 2>&1; then
        fail "$what"
    fi
}

same()
{
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

# wait_for SECONDS COMMAND...: until the command succeeds; 1 where it never did.
wait_for()
{
    local tries=$(($1 * 20))

    shift
    while [ "$tries" -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
        tries=$((tries - 1))
    done
    return 1
}

# poke FILE OFFSET VALUE [BYTES]: writes a little-endian number, 8 bytes wide unless told otherwise.
poke()
{
    local value=$(($3)) bytes=${4:-8} hex="" i

    for ((i = 0; i < bytes; i++)); do
        hex+=$(printf '\\x%02x' $((value >> (8 * i) & 255)))
    done
    # shellcheck disable=SC2059 # the number is the format
    printf "$hex" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# peek FILE OFFSET: the little-endian 64-bit number there.
peek()
{
    od -An -v -t u8 -j $(($2)) -N 8 "$1" | tr -d ' '
}

size_of()
{
    stat -c %s "$1"
}

# sample FILE [SIZE]: a clean image of 8 GiB; data at guest 0 (byte 1), 64 KiB (2) and 256 MiB (3), in host clusters
# 5, 10 and 11, one L2 table at $L2 in clusters 6 to 9.
sample()
{
    "$VDCHECK" create -f qed "$1" "${2:-8G}" &&
        "$VDCHECK" io -q -c 'write -P 1 0 64k' -c 'write -P 2 64k 64k' -c 'write -P 3 256M 64k' "$1" || exit 99
    [ "$(peek "$1" $L1)" -eq $((L2)) ] || exit 99
}

# Damage that the scripts use again and again, one kind each; the image is a copy of `sample`.
leaking()  # repaired at level safe
{
    cp "$1" "$2"
    poke "$2" $((L2 + 8)) 0
}

tail_leaking()  # at level leaks
{
    cp "$1" "$2"
    truncate -s +$((3 * C)) "$2"
}

shared()  # at level safe
{
    cp "$1" "$2"
    poke "$2" $((L2 + 8)) "$(peek "$1" $L2)"
}

out_of_file()  # at level all
{
    cp "$1" "$2"
    poke "$2" $((L2 + 8)) 0x7fff0000
}

dirty()
{
    cp "$1" "$2"
    poke "$2" 16 2
}

# as_nobody COMMAND...: without the rights of root; where we have none of them, as we are.
as_nobody()
{
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    else
        "$@"
    fi
}

# Whether as_nobody works: it needs setpriv for root, and a vdcheck that others may run.
can_be_nobody()
{
    chmod 755 "$scratch" "$scratch/work"
    as_nobody "$VDCHECK" --version >/dev/null 2>&1
}

# strange_farm FOLDER: ten images in it, most of them with names that would be markup or something else where they are not
# taken for text: five clean, one of them on a missing file of such a name, two damaged, two leaking, one dirty
strange_farm()
{
    mkdir -p "$1/x<"
    [ -e "$1/plain.qed" ] || sample "$1/plain.qed"
    leaking "$1/plain.qed" "$1/<script>alert(1).qed"
    out_of_file "$1/plain.qed" "$1/x</script>.qed"
    shared "$1/plain.qed" "$1/\"onload='alert(1)'.qed"
    dirty "$1/plain.qed" "$1/"$'two\nlines.qed'
    tail_leaking "$1/plain.qed" "$1/"$'\xff\xfe.qed'
    cp "$1/plain.qed" "$1/"$'a\xe2\x80\xaegpj.qed' # U+202E turns what follows around
    cp "$1/plain.qed" "$1/&lt;b&gt;.qed"
    cp "$1/plain.qed" "$1/javascript:alert(1)"
    cp "$1/plain.qed" "$1/<img src=x onerror=alert(1)>"
    "$VDCHECK" create -f qed -b "<img src=x onerror=alert(1)>" -F qed "$1/top.qed" 8G || exit 99
    rm "$1/<img src=x onerror=alert(1)>"
}

# inflate DB N: the images of a database of audits once more, under other names, until there are N
inflate()
{
    sqlite3 "$1" "WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i < $2)
        INSERT INTO image(host, path, first_run, last_run, result_id)
        SELECT host, printf('/srv/copy-%05d%s', i, path), first_run, last_run, result_id FROM n, image
        ORDER BY i, path LIMIT $2 - (SELECT count(*) FROM image)"
}

finish()
{
    [ "$failures" -eq 0 ] || echo "$failures checks failed"
    [ "$failures" -eq 0 ]
    exit
}

# qemu_luks FILE SIZE: a qcow2 image with a LUKS header by QEMU, its secret "x". QEMU times its key derivation by the
# processor time used, and where that moves in large steps it often cannot.
qemu_luks()
{
    local i

    for ((i = 0; i < 30; i++)); do
        run qemu-img create -q -f qcow2 --object secret,id=s,data=x \
            -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 "$1" "$2"
        [ "$status" != 0 ] || return 0
    done
    expect 0
}
