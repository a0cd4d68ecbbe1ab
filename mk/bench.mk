# bench.mk — measurements, each beside a peer in the same run.  They never fail on a number.

.PHONY: bench bench-engine bench-kvm

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

$(O)/bench/guest_init: bench/guest_init.c
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
