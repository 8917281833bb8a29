# SPDX-License-Identifier: LGPL-2.1-or-later
"""sarif.py SCHEMA FILE: what the schema has against the file; the exit status is 1 where it is something."""

import json
import sys

from jsonschema.validators import validator_for


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        schema = json.load(f)
    with open(sys.argv[2], encoding="utf-8") as f:
        log = json.load(f)
    wrong = list(validator_for(schema)(schema).iter_errors(log))
    for error in wrong[:10]:
        print("%s: %s" % ("/".join(map(str, error.absolute_path)), error.message[:200]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
