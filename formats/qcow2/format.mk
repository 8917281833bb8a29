libvdcheck_a_SOURCES += \
	formats/qcow2/driver.c \
	formats/qcow2/entry.c \
	formats/qcow2/field.c \
	formats/qcow2/findings.def \
	formats/qcow2/fix.c \
	formats/qcow2/header.c \
	formats/qcow2/judge.c \
	formats/qcow2/judge.h \
	formats/qcow2/judge-shared.c \
	formats/qcow2/layout.h \
	formats/qcow2/map.c \
	formats/qcow2/pass.c \
	formats/qcow2/pass-header.c \
	formats/qcow2/pass-leaks.c \
	formats/qcow2/pass-refcounts.c \
	formats/qcow2/qcow2.h \
	formats/qcow2/rebuild.c \
	formats/qcow2/refcount.c \
	formats/qcow2/reftable.c \
	formats/qcow2/walk.c
