libvdcheck_a_SOURCES += \
	formats/check.c formats/check.h \
	formats/drivers.def \
	formats/finding.c formats/finding.h \
	formats/image-findings.def \
	formats/info.h \
	formats/layout.c formats/layout.h \
	formats/open.c formats/open.h \
	formats/registry.c formats/registry.h
