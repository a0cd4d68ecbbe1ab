# bench.mk — measurements, each beside a peer in the same run.  They never fail on a number.

.PHONY: bench bench-engine

BENCH_BINS := $(O)/bench/interp $(O)/bench/exec

$(O)/bench/%: $(O)/obj/bench/%.o $(O)/libec1.a
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

.SECONDARY: $(patsubst $(O)/bench/%,$(O)/obj/bench/%.o,$(BENCH_BINS))

bench: bench-engine

# Start to exit, exec round trip, instructions per second, memory, on the software engine.
bench-engine: all kernel $(BENCH_BINS)
	bench/engine.py --engine soft --json $(O)/bench/soft.json $(O)
