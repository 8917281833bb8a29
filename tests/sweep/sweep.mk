# SPDX-License-Identifier: LGPL-2.1-or-later
# Sweeps over thousands of images in memory, and what every driver promises. VDCHECK_LONG=1 takes everything.
sweep_tests = \
	tests/sweep/test-pokes \
	tests/unit/test-driver-contract

if HAVE_CHECK
check_LIBRARIES += tests/sweep/libsweep.a
check_PROGRAMS += $(sweep_tests)
TESTS += $(sweep_tests)
endif

tests_sweep_libsweep_a_SOURCES = tests/sweep/judge.c tests/sweep/sweep.c tests/sweep/sweep.h
tests_sweep_libsweep_a_CFLAGS = $(unit_cflags)
sweep_ldadd = tests/sweep/libsweep.a $(unit_ldadd)

tests_sweep_test_pokes_SOURCES = tests/sweep/test-pokes.c
tests_sweep_test_pokes_CFLAGS = $(unit_cflags)
tests_sweep_test_pokes_LDADD = $(sweep_ldadd)

tests_unit_test_driver_contract_SOURCES = tests/unit/test-driver-contract.c
tests_unit_test_driver_contract_CFLAGS = $(unit_cflags)
tests_unit_test_driver_contract_LDADD = $(sweep_ldadd)
