# Makefile — the only entry.  `make help` lists what there is.
#
# MODE picks a variant with its own output folder: release (build/), san (build/san/: address and
# undefined sanitizers), cov (build/cov/: function coverage).  CC=clang puts clang in place of gcc
# (build/clang/).

MODE ?= release
include mk/toolchain.mk
include mk/flags.mk
include mk/rooms.mk
include mk/init.mk
include mk/run.mk
include mk/vm.mk
include mk/blackbox.mk
include mk/bench.mk
include mk/stress.mk
include mk/check.mk
include mk/help.mk
