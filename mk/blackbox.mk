# blackbox.mk — tests that drive the binaries as a user does, on each engine.

.PHONY: blackbox blackbox-soft blackbox-kvm

PYTEST := /usr/bin/python3 -m pytest -p no:cacheprovider -q

blackbox: blackbox-soft blackbox-kvm

blackbox-soft: all kernel
	EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=soft $(PYTEST) tests/blackbox
