# SPDX-License-Identifier: LGPL-2.1-or-later
# make fuzz [FUZZ_SECONDS=60] runs the fuzzer for that time. It is built by clang: in a tree that was configured by
# ./configure --enable-fuzzing CC=clang right here, in any other one in a tree of its own.
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
else
fuzz:
	bash $(srcdir)/tests/fuzz/fuzz-tree.sh $(srcdir) $(FUZZ_SECONDS)

distclean-local:
	rm -rf fuzz-tree
endif

EXTRA_DIST += tests/fuzz/fuzz.sh tests/fuzz/fuzz-image.c tests/fuzz/fuzz-tree.sh
