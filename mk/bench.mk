# bench.mk — measurements, each beside a peer in the same run.  They never fail on a number.

.PHONY: bench bench-api bench-engine bench-kvm bench-soft bench-soft-programs bench-vimto

BENCH_BINS := $(O)/bench/interp $(O)/bench/exec $(O)/bench/boot

$(O)/bench/%: $(O)/obj/bench/%.o $(O)/libec1.a
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

.SECONDARY: $(patsubst $(O)/bench/%,$(O)/obj/bench/%.o,$(BENCH_BINS))

bench:
	@tools/setup build kernel bench
	@$(AGAIN) bench-engine
	@$(AGAIN) bench-kvm

$(O)/bench/guest_init $(O)/bench/guest_mark $(O)/bench/vimto_init: $(O)/bench/%: bench/%.c
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(BASE_FLAGS) $(WARN) -Os -static -s -o $@ $<

# Start to exit, exec round trip, instructions per second, memory on the software engine; and a boot beside
# qemu's TCG.
bench-engine: all kernel $(BENCH_BINS) $(O)/bench/guest_init
	bench/engine.py --engine soft --json $(O)/bench/soft.json $(O)
	bench/boot.py --engine soft --json $(O)/bench/soft.json $(O)

# The same on KVM, and a boot beside qemu's microvm; in an emulated machine where /dev/kvm does not work.
KVM_BENCH = bench/engine.py --engine kvm --json $(O)/bench/kvm.json $(O) && bench/boot.py --engine kvm --json $(O)/bench/kvm.json $(O)

bench-kvm: all kernel $(BENCH_BINS) $(O)/bench/guest_init
	@if $(HAS_KVM); then $(KVM_BENCH); else tests/nested/outer -t 1500 -- sh -c '$(KVM_BENCH)'; fi

# The REST interface on both engines: endpoints, start, and a boot beside qemu's; its devices: the network, a disk.
API_BENCH = bench/api.py --engine $(1) --json $(O)/bench/api-$(1).json $(O) && \
	bench/net.py --engine $(1) --json $(O)/bench/net-$(1).json $(O) && \
	bench/block.py --engine $(1) --json $(O)/bench/block-$(1).json $(O) && \
	/usr/bin/python3 bench/snapshot.py --engine $(1) --json $(O)/bench/snapshot-$(1).json

bench-api:
	@tools/setup build kernel bench
	@$(AGAIN) $(JOBS) all kernel $(O)/bench/boot $(O)/bench/guest_mark
	$(call API_BENCH,soft)
	@if $(HAS_KVM); then $(call API_BENCH,kvm); else tests/nested/outer -t 1500 -- sh -c '$(call API_BENCH,kvm)'; fi

# The test runner: an empty Go package beside this host and a VM of qemu, files on its share; on KVM only the start.
bench-vimto:
	@tools/setup build test kernel bench
	@$(AGAIN) $(JOBS) all kernel $(O)/bench/vimto_init
	/usr/bin/python3 bench/vimto.py --engine soft --json $(O)/bench/vimto-soft.json $(VIMTO_ARGS) $(O)
	@if $(HAS_KVM); then $(VIMTO_KVM) $(VIMTO_ARGS) $(O); else tests/nested/outer -t 1500 -- $(VIMTO_KVM) --rows start --no-go --runs 3 $(O); fi

VIMTO_KVM = /usr/bin/python3 bench/vimto.py --engine kvm --json $(O)/bench/vimto-kvm.json

# The software engine beside qemu's TCG and this host, row by row (bench/soft.py): a minute or two for each run.
# A few rows in seconds, on what is built: bench/soft.py --quick --rows syscall,pagefault
# SOFT_ARGS="--docs docs/performance.md" writes the page's tables and its chart.
bench-soft:
	@tools/setup build kernel bench
	@$(AGAIN) $(JOBS) bench-soft-programs kernel
	bench/soft.py --build $(O) --json $(O)/bench/soft-rows.json --svg $(O)/bench/soft-rows.svg $(SOFT_ARGS)

bench-soft-programs: $(O)/bench/boot $(O)/bench/soft-guest

# One program for all engines and for this host.  Loops stay the loops they are: the compiler must not put
# library calls, vectors or iteration in their place.
SOFT_GUEST_SRCS := $(wildcard bench/soft/*.c)
SOFT_GUEST_FLAGS := -O2 -fno-tree-vectorize -fno-optimize-sibling-calls \
	$(if $(IS_CLANG),-fno-builtin,-fno-tree-loop-distribute-patterns -fno-ipa-cp -fno-code-hoisting)

$(O)/bench/soft-guest: $(SOFT_GUEST_SRCS) bench/soft/row.h
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(BASE_FLAGS) $(WARN) $(SOFT_GUEST_FLAGS) -static -o $@ $(SOFT_GUEST_SRCS)
