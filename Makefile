# The whole set-up is in here: every target installs what it needs, and says so.
PYTHON := .venv/bin/python

.PHONY: help demo test faults test-system test-vm deb check bench prepare clean

help:
	@echo "make demo    show the main job on an emulated drive"
	@echo "make test    run the tests (as root: also on real loop devices, with udev)"
	@echo "make test-system  boot Debian 12 and 13 in containers, set it up there as users do (needs root)"
	@echo "make deb     build the Debian package (13 and newer) into dist/ (needs root)"
	@echo "make test-vm  in virtual machines: real USB sticks plugged and pulled, homes of eCryptfs opened and recovered (needs root)"
	@echo "make faults  do every fault at every moment to both engines (as root, three quarters of an hour), print what survived"
	@echo "make check   ruff, formatting, mypy --strict"
	@echo "make bench   measure speed and cost, print ratios"
	@echo "make clean   remove the virtual environment and what was built"

demo: prepare
	@$(PYTHON) -m demo

test: prepare
	@$(PYTHON) -m pytest

# The trees of the containers are kept here: making them takes some minutes, once.
CACHE := $(or $(USBBACKUP_TEST_CACHE),$(HOME)/.cache/usbbackup-tests)

test-system: prepare
	@[ "$$(id -u)" != 0 ] || { packaging/prepare system && tests/system/make-roots $(CACHE); }
	@USBBACKUP_TEST_CACHE=$(CACHE) $(PYTHON) -m pytest -rs -m system tests/system

deb: prepare
	@packaging/prepare system
	@tests/system/make-roots $(CACHE)
	@packaging/make-deb $(CACHE)/debian13 dist

test-vm: prepare
	@packaging/prepare vm
	@[ "$$(id -u)" != 0 ] || $(PYTHON) -m tests.usb.debian $(CACHE)/vm
	@# two machines at once, one for each core, for about as long
	@export USBBACKUP_TEST_CACHE=$(CACHE); homes=tests/usb/test_usb_encrypted_home.py; \
	$(PYTHON) -m pytest -rs -m vm tests/ecryptfs $$homes >.test-vm 2>&1 & other=$$!; \
	$(PYTHON) -m pytest -rs -m vm tests/usb --ignore $$homes; code=$$?; \
	wait $$other || code=1; cat .test-vm; rm -f .test-vm; exit $$code

# Four parts side by side, of about the same length.
faults: prepare
	@rm -f .faults
	@for part in "[rsync-" "rsync_on_btrfs" "[borg- and (transfer or stage or probe)" "[borg- and not (transfer or stage or probe)"; do \
	    USBBACKUP_FAULTS=$(CURDIR)/.faults $(PYTHON) -m pytest -m "faults or not faults" \
	        tests/integration/test_faults.py -k "$$part" & \
	done; wait; \
	$(PYTHON) tests/integration/fault_page.py .faults docs/reliability.md

check: prepare
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

bench: prepare
	@for bench in bench/[a-z]*.py; do echo "== $$bench"; $(PYTHON) "$$bench" || exit 1; done

prepare:
	@packaging/prepare

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
