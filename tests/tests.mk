# The tests. The sanitized build is a second set of programs of the same Makefile.

if HAVE_SANITIZERS
check_LIBRARIES += libvdcheck-san.a
check_PROGRAMS += vdcheck-san
test_library = libvdcheck-san.a
test_flags = $(SANITIZE_FLAGS)
tested_vdcheck = vdcheck-san$(EXEEXT)
else
test_library = libvdcheck.a
test_flags =
tested_vdcheck = vdcheck$(EXEEXT)
endif

libvdcheck_san_a_SOURCES = $(libvdcheck_a_SOURCES)
nodist_libvdcheck_san_a_SOURCES = $(nodist_libvdcheck_a_SOURCES)
libvdcheck_san_a_CFLAGS = $(AM_CFLAGS) $(SANITIZE_FLAGS)
vdcheck_san_SOURCES = $(report_sources)
vdcheck_san_CFLAGS = $(AM_CFLAGS) $(SANITIZE_FLAGS)
vdcheck_san_LDADD = libvdcheck-san.a $(DEP_LIBS)


unit_cflags = $(AM_CFLAGS) $(CHECK_CFLAGS) $(test_flags)
unit_ldadd = $(test_library) $(DEP_LIBS) $(CHECK_LIBS)

include $(top_srcdir)/tests/unit/unit.mk
include $(top_srcdir)/tests/sweep/sweep.mk
include $(top_srcdir)/tests/crash/crash.mk
include $(top_srcdir)/tests/fixture/fixture.mk
include $(top_srcdir)/tests/command/command.mk
include $(top_srcdir)/tests/compare/compare.mk
include $(top_srcdir)/tests/lint/lint.mk
include $(top_srcdir)/tests/fuzz/fuzz.mk
include $(top_srcdir)/tests/browser/browser.mk
include $(top_srcdir)/tests/outputs/outputs.mk
include $(top_srcdir)/tests/demo/demo.mk
include $(top_srcdir)/tests/bench/bench.mk
AM_TESTS_ENVIRONMENT = VDCHECK=$(abs_top_builddir)/$(tested_vdcheck); \
	VDCHECK_PLAIN=$(abs_top_builddir)/vdcheck$(EXEEXT); srcdir=$(abs_srcdir); MANUALS=$(abs_top_builddir); \
	export VDCHECK VDCHECK_PLAIN srcdir MANUALS;

# The same tests, every sweep and every cut point complete and with seeds of the day; outputs by other programs; then the
# fuzzer.
FUZZ_LONG_SECONDS = 3600
.PHONY: check-long
check-long:
	VDCHECK_LONG=1 $(MAKE) check
	$(MAKE) check-outputs
	$(MAKE) fuzz FUZZ_SECONDS=$(FUZZ_LONG_SECONDS)
