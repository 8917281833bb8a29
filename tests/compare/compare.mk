# SPDX-License-Identifier: LGPL-2.1-or-later
# Against QEMU, in both directions; skipped where qemu-img and qemu-io are missing.
compare_tests = \
	tests/compare/locks.sh \
	tests/compare/ours-reads-qemu.sh \
	tests/compare/qcow2-clean.sh \
	tests/compare/qcow2-data-file.sh \
	tests/compare/qcow2-lost-header.sh \
	tests/compare/qcow2-map.sh \
	tests/compare/qcow2-metadata.sh \
	tests/compare/qcow2-ours-reads-qemu.sh \
	tests/compare/qcow2-qemu-reads-ours.sh \
	tests/compare/qemu-reads-ours.sh \
	tests/compare/verdicts.sh

dist_check_SCRIPTS += $(compare_tests)
EXTRA_DIST += \
	tests/compare/functions.sh \
	tests/compare/qcow2-functions.sh \
	tests/compare/verdicts.txt
TESTS += $(compare_tests)
