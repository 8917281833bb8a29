libvdcheck_a_SOURCES += \
	formats/base/auto.h \
	formats/base/budget.c formats/base/budget.h \
	formats/base/bytes.h \
	formats/base/err.c formats/base/err.h \
	formats/base/inflate.c formats/base/inflate.h \
	formats/base/runs.c formats/base/runs.h \
	formats/base/span.h \
	formats/base/text.c formats/base/text.h \
	formats/base/vec.h
