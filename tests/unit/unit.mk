# SPDX-License-Identifier: LGPL-2.1-or-later
# Units, one program for each module; its source has the same name.
unit_tests = \
	tests/unit/test-auditdb \
	tests/unit/test-block \
	tests/unit/test-budget \
	tests/unit/test-bytes \
	tests/unit/test-check \
	tests/unit/test-confine \
	tests/unit/test-discover \
	tests/unit/test-err \
	tests/unit/test-fault \
	tests/unit/test-file \
	tests/unit/test-finding \
	tests/unit/test-gate \
	tests/unit/test-journal \
	tests/unit/test-layout \
	tests/unit/test-ledger \
	tests/unit/test-lock \
	tests/unit/test-overlay \
	tests/unit/test-plan \
	tests/unit/test-pool \
	tests/unit/test-qcow2-entry \
	tests/unit/test-qcow2-refcount \
	tests/unit/test-qed-entry \
	tests/unit/test-qed-header \
	tests/unit/test-runs \
	tests/unit/test-scan \
	tests/unit/test-span \
	tests/unit/test-text \
	tests/unit/test-throttle \
	tests/unit/test-undofile \
	tests/unit/test-usecount \
	tests/unit/test-usemap

tests_unit_test_auditdb_CFLAGS = $(unit_cflags)
tests_unit_test_auditdb_LDADD = $(unit_ldadd)
tests_unit_test_block_CFLAGS = $(unit_cflags)
tests_unit_test_block_LDADD = $(unit_ldadd)
tests_unit_test_budget_CFLAGS = $(unit_cflags)
tests_unit_test_budget_LDADD = $(unit_ldadd)
tests_unit_test_bytes_CFLAGS = $(unit_cflags)
tests_unit_test_bytes_LDADD = $(unit_ldadd)
tests_unit_test_check_CFLAGS = $(unit_cflags)
tests_unit_test_check_LDADD = $(unit_ldadd)
tests_unit_test_confine_CFLAGS = $(unit_cflags)
tests_unit_test_confine_LDADD = $(unit_ldadd)
tests_unit_test_discover_CFLAGS = $(unit_cflags)
tests_unit_test_discover_LDADD = $(unit_ldadd)
tests_unit_test_err_CFLAGS = $(unit_cflags)
tests_unit_test_err_LDADD = $(unit_ldadd)
tests_unit_test_fault_CFLAGS = $(unit_cflags)
tests_unit_test_fault_LDADD = $(unit_ldadd)
tests_unit_test_file_CFLAGS = $(unit_cflags)
tests_unit_test_file_LDADD = $(unit_ldadd)
tests_unit_test_finding_CFLAGS = $(unit_cflags)
tests_unit_test_finding_LDADD = $(unit_ldadd)
tests_unit_test_gate_CFLAGS = $(unit_cflags)
tests_unit_test_gate_LDADD = $(unit_ldadd)
tests_unit_test_journal_CFLAGS = $(unit_cflags)
tests_unit_test_journal_LDADD = $(unit_ldadd)
tests_unit_test_layout_CFLAGS = $(unit_cflags)
tests_unit_test_layout_LDADD = $(unit_ldadd)
tests_unit_test_ledger_CFLAGS = $(unit_cflags)
tests_unit_test_ledger_LDADD = $(unit_ldadd)
tests_unit_test_lock_CFLAGS = $(unit_cflags)
tests_unit_test_lock_LDADD = $(unit_ldadd)
tests_unit_test_overlay_CFLAGS = $(unit_cflags)
tests_unit_test_overlay_LDADD = $(unit_ldadd)
tests_unit_test_plan_CFLAGS = $(unit_cflags)
tests_unit_test_plan_LDADD = $(unit_ldadd)
tests_unit_test_pool_CFLAGS = $(unit_cflags)
tests_unit_test_pool_LDADD = $(unit_ldadd)
tests_unit_test_qcow2_entry_CFLAGS = $(unit_cflags)
tests_unit_test_qcow2_entry_LDADD = $(unit_ldadd)
tests_unit_test_qcow2_refcount_CFLAGS = $(unit_cflags)
tests_unit_test_qcow2_refcount_LDADD = $(unit_ldadd)
tests_unit_test_qed_entry_CFLAGS = $(unit_cflags)
tests_unit_test_qed_entry_LDADD = $(unit_ldadd)
tests_unit_test_qed_header_CFLAGS = $(unit_cflags)
tests_unit_test_qed_header_LDADD = $(unit_ldadd)
tests_unit_test_runs_CFLAGS = $(unit_cflags)
tests_unit_test_runs_LDADD = $(unit_ldadd)
tests_unit_test_scan_CFLAGS = $(unit_cflags)
tests_unit_test_scan_LDADD = $(unit_ldadd)
tests_unit_test_span_CFLAGS = $(unit_cflags)
tests_unit_test_span_LDADD = $(unit_ldadd)
tests_unit_test_text_CFLAGS = $(unit_cflags)
tests_unit_test_text_LDADD = $(unit_ldadd)
tests_unit_test_throttle_CFLAGS = $(unit_cflags)
tests_unit_test_throttle_LDADD = $(unit_ldadd)
tests_unit_test_undofile_CFLAGS = $(unit_cflags)
tests_unit_test_undofile_LDADD = $(unit_ldadd)
tests_unit_test_usecount_CFLAGS = $(unit_cflags)
tests_unit_test_usecount_LDADD = $(unit_ldadd)
tests_unit_test_usemap_CFLAGS = $(unit_cflags)
tests_unit_test_usemap_LDADD = $(unit_ldadd)

EXTRA_DIST += tests/unit/loop.h tests/unit/unit.h

if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
