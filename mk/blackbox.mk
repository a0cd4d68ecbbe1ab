# blackbox.mk — tests that drive the binaries as a user does, and tests/vm, on each engine.

.PHONY: blackbox blackbox-soft blackbox-kvm fc-kvm

# Does /dev/kvm work here?
HAS_KVM = $(O)/ec1 doctor --json | tr -d '\n' | grep -q '"/dev/kvm",[^}]*"ok"'
PYTEST := /usr/bin/python3 -m pytest -p no:cacheprovider -q -rs

blackbox: interop blackbox-soft blackbox-kvm

# The init's service, driven by an independent gRPC client.
.PHONY: interop
interop: $(O)/test/exec-serve
	$(PYTEST) tests/exec

# Go's own tests of 50 standard packages, here and in a VM, side by side: an hour where there is no
# /dev/kvm.  SUITES="os net" are some of them; tests/vimto/suites.py has more flags.
.PHONY: vimto-suites
vimto-suites: all kernel
	VIMTO=$(CURDIR)/$(O)/vimto tests/vimto/suites.py $(SUITES)

# delve, gdb and eBPF programs in a VM, a minute or two; modules come through Go's proxy, else it is skipped.
.PHONY: vimto-tools
vimto-tools: all kernel
	VIMTO=$(CURDIR)/$(O)/vimto $(PYTEST) tests/vimto-tools

FC_TESTS = tests/fc

# The second kernel is for shares by 9P; without it their tests are skipped.
blackbox-soft: all kernel
	@tools/fetch-kernel 9p >/dev/null || true
	EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=soft $(PYTEST) tests/blackbox
	EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=soft $(PYTEST) tests/vimto
	FIRECRACKER=$(CURDIR)/$(O)/firecracker EC1_ENGINE=soft $(PYTEST) $(FC_TESTS)

# Where /dev/kvm works, everything on it.  Elsewhere one emulated machine that has it (tests/nested/outer)
# and, since that one is 20 times slower, of the black-box tests only what the engine can break: the
# execs that share a VM, without those that start Python in the guest (half a minute each), and a few
# whole lives.  About five minutes.
KVM_RUNS := streams or panic or poweroff or detached or timeout
# Of the microVMs over their socket: both ways into a kernel, the command line, vsock both ways; a snapshot that is
# loaded twice, and one by userfaultfd.  `make fc-kvm` is all of them.
KVM_FC := bzimage_boots_to or by_pvh or init_params or host_to_guest or guest_to_host or config_start_with_api
KVM_FC += or clones_of_one or test_pages_come
# vimto: a run with all that its environment promises.
KVM_VIMTO := environment
KVM_EXECS := not (mebibyte or loopback or file_semantics or ten_thousand)

blackbox-kvm: all kernel $(O)/test/vm
	@if $(HAS_KVM); then set -x; \
	    $(O)/test/vm --engine kvm && \
	    EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=kvm $(PYTEST) tests/blackbox && \
	    EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=kvm $(PYTEST) tests/vimto && \
	    FIRECRACKER=$(CURDIR)/$(O)/firecracker EC1_ENGINE=kvm $(PYTEST) tests/fc; \
	else set -x; \
	    tests/nested/again tests/nested/outer -t 900 -q 200 -- sh -ec '$(O)/test/vm --engine kvm; \
	        export EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=kvm; \
	        $(PYTEST) --color=no tests/blackbox/test_exec.py -k "$(KVM_EXECS)"; \
	        $(PYTEST) --color=no tests/blackbox/test_run.py -k "$(KVM_RUNS)"; \
	        $(PYTEST) --color=no tests/vimto -k "$(KVM_VIMTO)"; \
	        export FIRECRACKER=$(CURDIR)/$(O)/firecracker EC1_FC_GUEST=own; \
	        $(PYTEST) --color=no tests/fc -k "$(KVM_FC)"'; \
	fi

# Hours where KVM has to be emulated: `make fc-kvm FC_KVM_ARGS='-k snapshot tests/fc/test_pmem.py'`.
fc-kvm: all kernel
	tests/nested/fc $(FC_KVM_ARGS)
