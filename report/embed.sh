#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# embed.sh CSS JS: prints both as strings of C, and the Content-Security-Policy of a page that has them, which allows
# them by their hashes and nothing else. Coreutils and sed are all that it needs.
set -eu
export LC_ALL=C

# A string of C that has the file's bytes.
to_string()
{
    printf 'static const char %s[] =\n' "$1"
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' "$2"
    printf '    ;\n'
}

hash_of()
{
    sha256sum "$1" | cut -c 1-64 | tr a-f A-F | basenc --base16 -d | base64
}

# What would end the element early, or a last line without an end, which sed would give one.
for file in "$1" "$2"; do
    if grep -qiE '</|<!--' "$file" || [ -n "$(tail -c 1 "$file")" ]; then
        echo "$file: cannot stand in a page" >&2
        exit 1
    fi
done
to_string page_css "$1"
to_string page_js "$2"
printf 'static const char page_policy[] = "%s";\n' \
    "default-src 'none'; style-src 'sha256-$(hash_of "$1")'; script-src 'sha256-$(hash_of "$2")'; base-uri 'none'; form-action 'none'"
