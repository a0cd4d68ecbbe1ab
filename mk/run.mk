# run.mk — the two commands of the README: each does all of its own set-up.
#
# Set-up installs packages that pkg-config must then see, so building happens in a second make.

.PHONY: run test setup-run setup-test kernel

AGAIN := $(MAKE) --no-print-directory

setup-run:
	@tools/setup build kernel
setup-test:
	@tools/setup build kernel test

# A guest kernel in the user's cache.
kernel:
	@tools/fetch-kernel >/dev/null

run: setup-run
	@$(AGAIN) all kernel
	@tools/first-run $(O)/ec1

test: setup-test
	@$(AGAIN) all kernel
	@$(AGAIN) unit
	@$(AGAIN) blackbox
