# run.mk — the two commands of the README: each does all of its own set-up.
#
# Set-up installs packages that pkg-config must then see, so building happens in a second make.

.PHONY: run test setup-run setup-test kernel

AGAIN := $(MAKE) --no-print-directory
# As many compilers as CPUs, unless the caller said how many.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

setup-run:
	@tools/setup build kernel
setup-test:
	@tools/setup build kernel test

# A guest kernel in the user's cache.
kernel:
	@tools/fetch-kernel >/dev/null

run: setup-run
	@$(AGAIN) $(JOBS) all kernel
	@tools/first-run $(O)/ec1

test: setup-test
	@$(AGAIN) $(JOBS) all kernel test-programs
	@$(AGAIN) unit
	@$(AGAIN) blackbox
