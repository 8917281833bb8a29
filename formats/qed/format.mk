libvdcheck_a_SOURCES += \
	formats/qed/alloc.c \
	formats/qed/compact.c \
	formats/qed/create.c \
	formats/qed/driver.c \
	formats/qed/entry.c \
	formats/qed/findings.def \
	formats/qed/fix.c \
	formats/qed/header.c \
	formats/qed/judge.c \
	formats/qed/layout.h \
	formats/qed/map.c \
	formats/qed/orphan.c \
	formats/qed/pass.c \
	formats/qed/pass-header.c \
	formats/qed/pass-leaks.c \
	formats/qed/qed.h \
	formats/qed/rebuild.c \
	formats/qed/space.c \
	formats/qed/walk.c
EXTRA_DIST += formats/qed/README.md
