libvdcheck_a_SOURCES += \
	formats/qcow2/alloc.c \
	formats/qcow2/backing.c \
	formats/qcow2/create.c \
	formats/qcow2/driver.c \
	formats/qcow2/entry.c \
	formats/qcow2/field.c \
	formats/qcow2/findings.def \
	formats/qcow2/header.c \
	formats/qcow2/layout.h \
	formats/qcow2/live.c \
	formats/qcow2/live.h \
	formats/qcow2/map.c \
	formats/qcow2/pass.c \
	formats/qcow2/pass-header.c \
	formats/qcow2/qcow2.h \
	formats/qcow2/refcount.c \
	formats/qcow2/resize.c \
	formats/qcow2/table.c \
	formats/qcow2/write.c
