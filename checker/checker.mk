libvdcheck_a_SOURCES += \
	checker/alone.c checker/alone.h \
	checker/audit.c checker/audit.h checker/audit-inside.h \
	checker/audit-elsewhere.c checker/audit-repair.c \
	checker/auditdb.c checker/auditdb.h \
	checker/cancel.c checker/cancel.h \
	checker/check.c checker/check.h \
	checker/confine.c checker/confine.h \
	checker/database.c checker/database.h \
	checker/discover.c checker/discover.h \
	checker/farm.c checker/farm.h \
	checker/ledger.c checker/ledger.h \
	checker/pool.c checker/pool.h \
	checker/progress.c checker/progress.h \
	checker/shard.c checker/shard.h \
	checker/store.c checker/store.h \
	checker/usemap.c checker/usemap.h \
	checker/usemap-bits.c checker/usemap-counts.c checker/usemap-inside.h

# A schema stands in one file, as SQL; the program has it as a string.
schemas = checker/schema.inc checker/audit-schema.inc
nodist_libvdcheck_a_SOURCES += $(schemas)
BUILT_SOURCES += $(schemas)
CLEANFILES += $(schemas)
EXTRA_DIST += checker/schema.sql checker/audit-schema.sql
to_string = mkdir -p checker && sed -e 's/--.*//' -e 's/"/\\"/g' -e 's/.*/"&\\n"/'
checker/schema.inc: $(srcdir)/checker/schema.sql
	$(AM_V_GEN)$(to_string) $(srcdir)/checker/schema.sql > $@.tmp && mv $@.tmp $@
checker/audit-schema.inc: $(srcdir)/checker/audit-schema.sql
	$(AM_V_GEN)$(to_string) $(srcdir)/checker/audit-schema.sql > $@.tmp && mv $@.tmp $@

# BUILT_SOURCES serve `make` and `make check` only; these, every goal.
checker/store.$(OBJEXT) checker/libvdcheck_san_a-store.$(OBJEXT): checker/schema.inc
checker/auditdb.$(OBJEXT) checker/libvdcheck_san_a-auditdb.$(OBJEXT): checker/audit-schema.inc
