#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# No function is longer than 80 lines.
set -u
cd "${srcdir:-.}" || exit 1

# shellcheck disable=SC2016 # awk's variables
find checker formats repair report tests -name '*.[ch]' -print | sort | xargs awk '
    FNR == 1 { start = 0 }
    /^\{/ { start = FNR; head = before }
    /^\}/ && start {
        n++
        if (FNR - start + 1 > 80) {
            print FILENAME ":" start ": " FNR - start + 1 " lines: " head
            bad = 1
        }
        start = 0
    }
    { before = $0 }
    END { exit bad || n < 100 }' # so few would mean that nothing was looked at
