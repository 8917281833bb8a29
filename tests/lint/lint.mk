# SPDX-License-Identifier: LGPL-2.1-or-later
# Rules of this tree that no compiler knows, one script for each.
lint_tests = \
	tests/lint/banned.sh \
	tests/lint/contrib.sh \
	tests/lint/findings.sh \
	tests/lint/format.sh \
	tests/lint/functions.sh \
	tests/lint/headers.sh \
	tests/lint/layers.sh \
	tests/lint/license.sh \
	tests/lint/manual.sh \
	tests/lint/options.sh

dist_check_SCRIPTS += $(lint_tests)
TESTS += $(lint_tests)
