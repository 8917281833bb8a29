# SPDX-License-Identifier: LGPL-2.1-or-later
# make check-browser loads pages of `vdcheck report --output=html` in Chromium, by chromedriver, and keeps screenshots in
# browser-shots. It needs chromium, chromium-driver, python3 and sqlite3, and is skipped where one is missing.
EXTRA_DIST += tests/browser/browser.sh tests/browser/browser.py tests/browser/driver.py

.PHONY: check-browser
check-browser: vdcheck$(EXEEXT)
	@VDCHECK=$(abs_top_builddir)/vdcheck$(EXEEXT) srcdir=$(abs_srcdir) bash $(srcdir)/tests/browser/browser.sh \
		$(abs_top_builddir)/browser-shots; status=$$?; [ $$status -eq 0 ] || [ $$status -eq 77 ]

clean-local: clean-browser-shots
clean-browser-shots:
	rm -rf browser-shots
