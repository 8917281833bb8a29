#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Each header compiles alone, and may be included twice.
set -u
cd "${srcdir:-.}" || exit 1

cc=${CC:-cc}
if ! command -v "${cc%% *}" > /dev/null; then
    echo "skipped: no compiler '$cc'"
    exit 77
fi
read -ra flags <<< "$(pkg-config --cflags sqlite3 zlib libxxhash jansson 2> /dev/null)"

bad=0
for header in $(find checker formats repair report -name '*.h' | sort); do
    # shellcheck disable=SC2086 # a compiler with options is a list of words
    printf '#include "%s"\n' "$header" "$header" |
        $cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -I. ${flags[@]+"${flags[@]}"} -x c - || {
        echo "$header does not compile alone"
        bad=1
    }
done
exit $bad
