# help.mk — what one can ask for.

.PHONY: help
help:
	@echo "make          build build/ec1 and build/ec1-init"
	@echo "make unit     unit tests (make unit/<room> for one room, / written as -)"
	@echo "make run      set up, build, run a first command in a VM"
	@echo "make test     set up, build, run all tests"
	@echo "make stress   stress-ng in a VM of 4 vCPUs (STRESS_SECONDS=15 for each class)"
	@echo "make hostile  ten minutes of a kernel module that attacks the software engine"
	@echo "make kernels  boot Debian 6.1 and 6.12, and two built once: full of checks, for microVMs"
	@echo "make lint     layering, form, static analysis (make lint-full: of the tests, too)"
	@echo "make coverage which functions the tests call; fails at 85 % or below"
	@echo "make bench-soft  the software engine beside qemu and the host: minutes"
	@echo "make bench-vimto a test of nothing, and files on a share, beside the host and qemu"
	@echo "make format   clang-format everything"
	@echo "make MODE=san / MODE=cov / CC=clang ... any of the above in another variant"
