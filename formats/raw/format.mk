libvdcheck_a_SOURCES += formats/raw/driver.c
EXTRA_DIST += formats/raw/README.md
