EXTRA_DIST += tests/demo/demo.sh

.PHONY: demo
demo: vdcheck$(EXEEXT)
	bash $(srcdir)/tests/demo/demo.sh $(abs_top_builddir)/vdcheck$(EXEEXT)
