report_sources = \
	report/audit-job.c report/audit-job.h report/audit-repair.c \
	report/cli.h \
	report/cmd-audit.c \
	report/cmd-check.c \
	report/cmd-create.c \
	report/cmd-explain.c \
	report/cmd-formats.c \
	report/cmd-info.c \
	report/cmd-io.c \
	report/cmd-map.c \
	report/cmd-report.c \
	report/cmd-salvage.c \
	report/cmd-undo.c \
	report/commands.def \
	report/explain.c report/explain.h \
	report/html.h \
	report/html-finding.c report/html-finding.h \
	report/html-parts.c \
	report/html-repair.c \
	report/html-strip.c \
	report/html-table.c \
	report/html-text.c \
	report/html-top.c \
	report/html-trend.c \
	report/json.c \
	report/main.c \
	report/options.def \
	report/parse.c report/parse.h \
	report/paths.c report/paths.h \
	report/render-human.c \
	report/render-json.c \
	report/render-qemu.c \
	report/render.h \
	report/report.c report/report.h \
	report/report-csv.c \
	report/report-html.c \
	report/report-human.c \
	report/report-json.c \
	report/report-junit.c \
	report/report-nagios.c \
	report/report-prometheus.c \
	report/report-sarif.c \
	report/status.c report/status.h \
	report/strip.c report/strip.h

# What is in every page of --output=html, as strings, with its hashes.
page_files = $(srcdir)/report/page.css $(srcdir)/report/page.js
nodist_vdcheck_SOURCES = report/page.inc
BUILT_SOURCES += report/page.inc
CLEANFILES += report/page.inc
EXTRA_DIST += report/page.css report/page.js report/embed.sh report/screenshot.png
report/page.inc: $(page_files) $(srcdir)/report/embed.sh
	$(AM_V_GEN)mkdir -p report && sh $(srcdir)/report/embed.sh $(page_files) > $@.tmp && mv $@.tmp $@
# BUILT_SOURCES serve `make` and `make check` only; these, every goal.
report/report-html.$(OBJEXT) report/vdcheck_san-report-html.$(OBJEXT): report/page.inc

# Manual pages and completion take their lists from the rows.
noinst_PROGRAMS = report/gen-doc
report_gen_doc_SOURCES = report/gen-doc.c
report_gen_doc_LDADD = libvdcheck.a $(DEP_LIBS)
man_MANS = vdcheck.1 vdcheck-findings.7
bashcompletion_DATA = vdcheck.bash
doc_templates = report/vdcheck.1.in report/vdcheck-findings.7.in report/completion.in
EXTRA_DIST += $(doc_templates)
CLEANFILES += $(man_MANS) $(bashcompletion_DATA)

vdcheck.1: report/vdcheck.1.in report/gen-doc$(EXEEXT)
	$(AM_V_GEN)report/gen-doc $(srcdir)/report/vdcheck.1.in > $@.tmp && mv $@.tmp $@
vdcheck-findings.7: report/vdcheck-findings.7.in report/gen-doc$(EXEEXT)
	$(AM_V_GEN)report/gen-doc $(srcdir)/report/vdcheck-findings.7.in > $@.tmp && mv $@.tmp $@
vdcheck.bash: report/completion.in report/gen-doc$(EXEEXT)
	$(AM_V_GEN)report/gen-doc $(srcdir)/report/completion.in > $@.tmp && mv $@.tmp $@

# Audits by timers and on many machines, to be copied and changed.
contrib_files = \
	report/contrib/vdcheck-audit.service \
	report/contrib/vdcheck-audit.timer \
	report/contrib/vdcheck-kubernetes.yaml \
	report/contrib/vdcheck-repair.service \
	report/contrib/vdcheck-slurm.sh
examplesdir = $(docdir)/examples
dist_examples_DATA = $(contrib_files)

# The completion must be called as the command is.
install-data-hook:
	cd "$(DESTDIR)$(bashcompletiondir)" && mv -f vdcheck.bash vdcheck
uninstall-hook:
	rm -f "$(DESTDIR)$(bashcompletiondir)/vdcheck"
