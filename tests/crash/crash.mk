# SPDX-License-Identifier: LGPL-2.1-or-later
# Power cuts and kills. VDCHECK_LONG=1 takes every cut point.
crash_tests = \
	tests/crash/test-fixtures \
	tests/crash/test-journal \
	tests/crash/test-live \
	tests/crash/test-qcow2-live

if HAVE_CHECK
check_LIBRARIES += tests/crash/libcrash.a
check_PROGRAMS += $(crash_tests)
TESTS += $(crash_tests)
endif

dist_check_SCRIPTS += tests/crash/kills.sh tests/crash/kills-audit.sh
TESTS += tests/crash/kills.sh tests/crash/kills-audit.sh

tests_crash_libcrash_a_SOURCES = \
	tests/crash/disk.c \
	tests/crash/disk.h \
	tests/crash/roll.c \
	tests/crash/roll.h
tests_crash_libcrash_a_CFLAGS = $(unit_cflags)
crash_ldadd = tests/crash/libcrash.a $(sweep_ldadd)

tests_crash_test_fixtures_SOURCES = tests/crash/test-fixtures.c
tests_crash_test_fixtures_CFLAGS = $(unit_cflags)
tests_crash_test_fixtures_LDADD = tests/fixture/libfixture.a $(crash_ldadd)

tests_crash_test_journal_SOURCES = tests/crash/test-journal.c
tests_crash_test_journal_CFLAGS = $(unit_cflags)
tests_crash_test_journal_LDADD = $(crash_ldadd)

tests_crash_test_live_SOURCES = tests/crash/test-live.c
tests_crash_test_live_CFLAGS = $(unit_cflags)
tests_crash_test_live_LDADD = $(crash_ldadd)

tests_crash_test_qcow2_live_SOURCES = \
	tests/crash/census.c \
	tests/crash/census.h \
	tests/crash/test-qcow2-live.c
tests_crash_test_qcow2_live_CFLAGS = $(unit_cflags)
tests_crash_test_qcow2_live_LDADD = $(crash_ldadd)
