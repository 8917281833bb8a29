#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Rows of findings: an id stands once, begins with its format's name, has an enumerator of the same words, and that is used.
set -u
shopt -s nullglob
cd "${srcdir:-.}" || exit 1

bad=0
complain() {
    echo "$*"
    bad=1
}

rows() { # FILE...: "SYMBOL id" of each row
    sed -n 's/^F(\([A-Z0-9_]*\), "\([^"]*\)".*/\1 \2/p' "$@"
}

check_file() { # FILE FORMAT PREFIX-OF-ENUMERATORS SOURCE...
    local file=$1 format=$2 prefix=$3 symbol id words
    shift 3
    [ "$(grep -c '^F(' "$file")" = "$(rows "$file" | wc -l)" ] || complain "$file: a row does not begin with symbol and id"
    while read -r symbol id; do
        words=${id//[.-]/_}
        [ "${id%%.*}" = "$format" ] || complain "$file: $id does not begin with $format"
        [ "${words^^}" = "$symbol" ] || complain "$file: $symbol is not the enumerator of $id"
        grep -qw "$prefix$symbol" "$@" || complain "$file: $prefix$symbol is not used"
    done < <(rows "$file")
}

check_file formats/image-findings.def image VD_ formats/*.c checker/*.c repair/*.c report/*.c
for file in formats/*/findings.def; do
    folder=${file%/*}
    check_file "$file" "${folder##*/}" '' "$folder"/*.c
done
for id in $(rows formats/image-findings.def formats/*/findings.def | cut -d ' ' -f 2 | sort | uniq -d); do
    complain "$id stands more than once"
done
exit $bad
