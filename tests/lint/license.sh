#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The licence is the first line of each source, or the second, behind the name of an interpreter.
set -u
cd "${srcdir:-.}" || exit 1

bad=0
while IFS= read -r file; do
    if ! sed -e '1{/^#!/d' -e '}' "$file" | head -n 1 | grep -q 'SPDX-License-Identifier: LGPL-2\.1-or-later'; then
        echo "$file: the first line is no licence line"
        bad=1
    fi
done < <(
    find checker formats repair report tests \
        \( -name '*.[ch]' -o -name '*.def' -o -name '*.sh' -o -name '*.sql' -o -name '*.py' \) -print
    printf '%s\n' autogen.sh configure.ac Makefile.am GNUmakefile
)
exit $bad
