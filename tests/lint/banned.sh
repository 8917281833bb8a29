#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Functions that no code uses, and files that alone may open files: what an image names is opened through the gate.
set -u
cd "${srcdir:-.}" || exit 1

may_open='^(formats/node/(file|gate|overlay)|repair/(journal|undofile)|checker/(discover|confine))\.c:'

calls() { # NAMES FOLDER...: where one of them is called; strings are left out
    local names=$1
    shift
    grep -rnE --include='*.[ch]' "($names)[[:space:]]*\(" "$@" | sed 's/"[^"]*"/""/g' |
        grep -E "(^|[^a-zA-Z0-9_>.])($names)[[:space:]]*\("
}

bad=0
if calls 'strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atoll|alloca' checker formats repair report; then
    echo "No code calls these."
    bad=1
fi
if calls 'open|openat|openat2|creat' checker formats repair report | grep -vE "$may_open"; then
    echo "Only the file node, the gate, the overlay, the journal, the undo file, and an audit's search and walls open files."
    bad=1
fi
# The commands may write a file that the user names; nobody below them knows of any.
if calls 'fopen|freopen|opendir|mkstemp|tmpfile' checker formats repair; then
    echo "No file is opened by other means."
    bad=1
fi
# Arrays of variable length are found by the compiler, as long as it is asked.
if ! grep -q -- '-Wvla' configure.ac; then
    echo "configure.ac: -Wvla is missing"
    bad=1
fi
exit $bad
