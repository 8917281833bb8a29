# Units, one program for each module.
unit_tests = tests/unit/test-runs

tests_unit_test_runs_SOURCES = tests/unit/test-runs.c tests/unit/unit.h
tests_unit_test_runs_CFLAGS = $(unit_cflags)
tests_unit_test_runs_LDADD = $(unit_ldadd)

if HAVE_CHECK
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
