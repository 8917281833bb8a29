#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The code is as clang-format leaves it. Each version lays out some code differently; only this one is asked.
set -u
cd "${srcdir:-.}" || exit 1

version=14
clang_format=$(command -v "clang-format-$version" || command -v clang-format)
if [ -z "$clang_format" ]; then
    echo "skipped: clang-format is not installed"
    exit 77
fi
if ! "$clang_format" --version | grep -q "version $version\."; then
    echo "skipped: $("$clang_format" --version), and the code is laid out by version $version"
    exit 77
fi
find checker formats repair report tests -name '*.[ch]' -print | sort |
    xargs "$clang_format" --style=file --dry-run -Werror
