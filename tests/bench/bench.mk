# SPDX-License-Identifier: LGPL-2.1-or-later
#
# make bench: vdcheck, qemu-img check and a floor program side by side. Included by the Makefile.am of the top
# folder, which initialises CLEANFILES and EXTRA_DIST. The programs are built for this goal alone.

bench_programs = \
	tests/bench/floor-qcow2 \
	tests/bench/floor-qed \
	tests/bench/gen-qcow2 \
	tests/bench/gen-qed \
	tests/bench/measure
EXTRA_PROGRAMS += $(bench_programs)

# They share nothing with vdcheck, so no library of the tree is linked in.
bench_floor = tests/bench/floor.c tests/bench/floor.h
bench_gen = tests/bench/gen.c tests/bench/gen.h
tests_bench_floor_qcow2_SOURCES = tests/bench/floor-qcow2.c $(bench_floor)
tests_bench_floor_qcow2_LDADD =
tests_bench_floor_qed_SOURCES = tests/bench/floor-qed.c $(bench_floor)
tests_bench_floor_qed_LDADD =
tests_bench_gen_qcow2_SOURCES = tests/bench/gen-qcow2.c $(bench_gen)
tests_bench_gen_qcow2_LDADD =
tests_bench_gen_qed_SOURCES = tests/bench/gen-qed.c $(bench_gen)
tests_bench_gen_qed_LDADD =
tests_bench_measure_SOURCES = tests/bench/measure.c
tests_bench_measure_LDADD =

EXTRA_DIST += tests/bench/bench.sh tests/bench/bench-farm.sh tests/bench/gen-farm.sh
CLEANFILES += $(bench_programs)

.PHONY: bench
bench: vdcheck$(EXEEXT) $(bench_programs)
	bash $(srcdir)/tests/bench/bench.sh $(top_builddir)/vdcheck tests/bench
	bash $(srcdir)/tests/bench/bench-farm.sh $(top_builddir)/vdcheck tests/bench
