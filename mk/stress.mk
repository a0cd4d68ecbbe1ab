# stress.mk — long and heavy tests that `make test` leaves out.

.PHONY: stress kernels hostile

# Each class of stressors for STRESS_SECONDS in a VM of 4 vCPUs, verified; the results add up in stress.jsonl
# (tests/stress/run --sum).
STRESS_SECONDS ?= 15

stress:
	@tools/setup build kernel stress
	@$(AGAIN) $(JOBS) all kernel
	tests/stress/run --seconds $(STRESS_SECONDS) --log $(O)/stress.jsonl $(O)/ec1

# Boot the kernels that the tests know, all of them: fetch 6.12, build the one that is unlike Debian's, the one of
# microVMs and the one of vimto's users (some minutes each, once).
kernels:
	@tools/setup build kernel test
	@$(AGAIN) $(JOBS) all kernel
	@tools/fetch-kernel 6.12 >/dev/null
	@tools/build-kernel debug >/dev/null
	@tools/build-kernel microvm >/dev/null
	@tools/build-kernel vimto >/dev/null
	EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=soft $(PYTEST) -rs tests/blackbox/test_run.py -k "kernel and boots"
	EC1=$(CURDIR)/$(O)/ec1 EC1_ENGINE=soft $(PYTEST) -rs tests/blackbox/test_share.py
	FIRECRACKER=$(CURDIR)/$(O)/firecracker EC1_ENGINE=soft $(PYTEST) tests/fc/test_kernel_own.py

# A kernel module that attacks the engine, in VM after VM, for HOSTILE_SECONDS.
HOSTILE_SECONDS ?= 600
HOSTILE_LIFE ?= $(if $(filter san,$(MODE)),40,10)

hostile:
	@tools/setup build kernel stress
	@$(AGAIN) $(JOBS) all kernel
	tests/hostile/run --seconds $(HOSTILE_SECONDS) --life $(HOSTILE_LIFE) $(O)/ec1 $$(tests/hostile/build $(O)/hostile)
