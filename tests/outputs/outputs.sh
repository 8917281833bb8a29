#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Outputs of `vdcheck report`, and the manual pages, judged by programs and schemas that are not ours: outputs.sh FOLDER, where
# what is fetched is kept.
# shellcheck source=../command/functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# The schema of SARIF is in a package of npm, which is fetched once; SARIF_SCHEMA=FILE names one that is there.
SARIF_PACKAGE=@microsoft/sarif-multitool-linux@5.7.0
kept=$1
mkdir -p "$kept" || exit 99

# judge WHAT COMMAND...: says so where the command does not like what it reads
judge()
{
    local what=$1

    shift
    run "$@"
    ran="$what: $*"
    expect 0
}

sarif_schema()
{
    [ -z "${SARIF_SCHEMA-}" ] || { echo "$SARIF_SCHEMA"; return; }
    if [ ! -s "$kept/sarif-2.1.0.json" ]; then
        has_command npm || return
        (cd "$kept" && npm pack --silent "$SARIF_PACKAGE" >/dev/null 2>&1 &&
            tar -xzf microsoft-sarif-multitool-linux-*.tgz --strip-components=1 package/sarif-2.1.0.json)
        rm -f "$kept"/microsoft-sarif-multitool-linux-*.tgz
    fi
    [ ! -s "$kept/sarif-2.1.0.json" ] || echo "$kept/sarif-2.1.0.json"
}

# judges FILE: its outputs, each by who is there for it
judges()
{
    local o

    for o in junit sarif prometheus json csv html; do
        vd report --exit-zero --output=$o "$1"
        expect 0
        cp "$told/out" "$1.$o"
    done
    [ -z "$can_xml" ] || judge "$1" xmllint --noout --nonet --schema "$srcdir/tests/outputs/junit.xsd" "$1.junit"
    [ -z "$can_metrics" ] || judge "$1" sh -c "promtool check metrics <'$1.prometheus'"
    [ -z "$can_jq" ] || judge "$1" jq -e '.images | all(has("seconds") and has("repair") and has("findings"))' "$1.json"
    [ -z "$schema" ] || judge "$1" python3 "$srcdir/tests/outputs/sarif.py" "$schema" "$1.sarif"
    # 1: warnings, most of them because it knows a dl of older days
    [ -z "$can_tidy" ] || judge "$1" sh -c "tidy -quiet -errors '$1.html' 2>/dev/null; [ \$? -lt 2 ]"
}

# knows COMMAND PACKAGE: is it there?
knows()
{
    has_command "$1" && echo yes && return
    skip_part "no $1 (Debian: apt-get install $2)" >&2
}

can_xml=$(knows xmllint libxml2-utils)
can_metrics=$(knows promtool prometheus)
can_jq=$(knows jq jq)
can_tidy=$(knows tidy tidy)
can_manual=$(knows mandoc mandoc)
schema=
if python3 -c 'import jsonschema' 2>/dev/null; then
    schema=$(sarif_schema)
    [ -n "$schema" ] || skip_part "no schema of SARIF: SARIF_SCHEMA=FILE names one, or npm fetches it"
else
    skip_part "no jsonschema for python3 (Debian: apt-get install python3-jsonschema)"
fi

# ---- farms: none, one with strange names, one that was repaired
mkdir farm empty
vd audit --db=empty.db empty
judges empty.db
strange_farm farm
sleep 0.1
vd audit --db=strange.db farm
judges strange.db
cp strange.db again.db
sleep 0.1
vd audit --db=again.db --undo-dir=undo --repair farm
[ $((status & 8)) = 0 ] || fail "the farm cannot be repaired"
judges again.db

# ---- and a database that a stranger wrote
if has_command sqlite3; then
    cp strange.db hostile.db
    sqlite3 hostile.db "UPDATE run SET host = '</a>' || char(10, 65534), farm = '\"', seconds = 9e999, started_at = -5;
        UPDATE image SET host = '\"><b>' || char(8238), path = CASE id WHEN 1 THEN '' WHEN 2 THEN 'x' ELSE path || x'ff' || char(27) END;
        UPDATE result SET format = '<b>\"\\' || char(10) || x'ff', reason = '</p><script>' || char(1), seconds = -9e999,
            checked_at = 9223372036854775807, virtual_size = 9223372036854775807, leaked_bytes = 9223372036854775807;
        UPDATE finding SET finding = finding || '<>' || x'ff', severity = '\"' || x'ff', level = '<i>', note = '<s>', count = -5,
            places = '[{\"host_offset\": 9223372036854775807, \"host_bytes\": -1}, 7, []]'"
    judges hostile.db
else
    skip_part "no sqlite3"
fi

# ---- manual pages
if [ -n "$can_manual" ]; then
    judge manual mandoc -Tlint -Wwarning "$MANUALS/vdcheck.1" "$MANUALS/vdcheck-findings.7"
fi
finish
