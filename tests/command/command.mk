# SPDX-License-Identifier: LGPL-2.1-or-later
# Whole commands, one script for each area of behaviour. They run vdcheck alone; no QEMU is needed.
command_tests = \
	tests/command/usage.sh \
	tests/command/refused-files.sh \
	tests/command/exit-status.sh \
	tests/command/output.sh \
	tests/command/json.sh \
	tests/command/names.sh \
	tests/command/repair.sh \
	tests/command/undo.sh \
	tests/command/undo-file.sh \
	tests/command/chain.sh \
	tests/command/jobs.sh \
	tests/command/in-use.sh \
	tests/command/block-device.sh \
	tests/command/signals.sh \
	tests/command/map.sh \
	tests/command/lists.sh \
	tests/command/create.sh \
	tests/command/io.sh \
	tests/command/salvage.sh \
	tests/command/hostile.sh \
	tests/command/audit.sh \
	tests/command/audit-repair.sh \
	tests/command/report-html.sh \
	tests/command/slurm.sh

dist_check_SCRIPTS += $(command_tests)
EXTRA_DIST += tests/command/functions.sh
TESTS += $(command_tests)
