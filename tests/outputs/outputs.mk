# SPDX-License-Identifier: LGPL-2.1-or-later
# make check-outputs has what `vdcheck report` prints judged by xmllint, promtool, jq, tidy, mandoc and the schemas of JUnit and
# SARIF. What is missing is skipped and named. junit.xsd is the one of the JUnit plugin of Jenkins, under the MIT licence, which
# stands in it; the schema of SARIF is fetched with npm into outputs/.
EXTRA_DIST += tests/outputs/outputs.sh tests/outputs/sarif.py tests/outputs/junit.xsd

.PHONY: check-outputs
check-outputs: vdcheck$(EXEEXT) vdcheck.1 vdcheck-findings.7
	@VDCHECK=$(abs_top_builddir)/vdcheck$(EXEEXT) srcdir=$(abs_srcdir) MANUALS=$(abs_top_builddir) \
		bash $(srcdir)/tests/outputs/outputs.sh $(abs_top_builddir)/outputs

clean-local: clean-outputs
clean-outputs:
	rm -rf outputs
