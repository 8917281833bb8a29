libvdcheck_a_SOURCES += \
	repair/journal.c repair/journal.h \
	repair/live.c repair/live.h \
	repair/plan.c repair/plan.h \
	repair/repair.c repair/repair.h \
	repair/salvage.c repair/salvage.h \
	repair/transaction.c repair/transaction.h \
	repair/undo.c repair/undo.h \
	repair/undofile.c repair/undofile.h \
	repair/verify.c repair/verify.h
