libvdcheck_a_SOURCES += \
	formats/node/behind.c formats/node/behind.h \
	formats/node/block.c formats/node/block.h \
	formats/node/fault.c formats/node/fault.h \
	formats/node/file.c formats/node/file.h \
	formats/node/gate.c formats/node/gate.h \
	formats/node/lock.c formats/node/lock.h \
	formats/node/memory.c formats/node/memory.h \
	formats/node/overlay.c formats/node/overlay.h \
	formats/node/scan.c formats/node/scan.h \
	formats/node/stats.c formats/node/stats.h \
	formats/node/throttle.c formats/node/throttle.h \
	formats/node/window.c formats/node/window.h
