# ./configure --enable-fuzzing CC=clang; make fuzz [FUZZ_SECONDS=60] runs the fuzzer for that time.
FUZZ_SECONDS = 60
.PHONY: fuzz

if FUZZING
EXTRA_PROGRAMS += tests/fuzz/fuzz-image
tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz-image.c
tests_fuzz_fuzz_image_CFLAGS = $(AM_CFLAGS)
tests_fuzz_fuzz_image_LDFLAGS = -fsanitize=fuzzer
tests_fuzz_fuzz_image_LDADD = libvdcheck.a $(DEP_LIBS)
CLEANFILES += tests/fuzz/fuzz-image

fuzz: tests/fuzz/fuzz-image$(EXEEXT) vdcheck$(EXEEXT)
	VDCHECK=$(abs_top_builddir)/vdcheck bash $(srcdir)/tests/fuzz/fuzz.sh tests/fuzz/fuzz-image $(FUZZ_SECONDS)
endif

EXTRA_DIST += tests/fuzz/fuzz.sh tests/fuzz/fuzz-image.c
