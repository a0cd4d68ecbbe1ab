# init.mk — PID 1 of the guest: a static program of its own, from guest/init, base and proto.

INIT_SRCS := $(sort $(filter-out %_test.c,$(wildcard guest/init/*.c) $(wildcard src/base/*.c src/proto/*.c)))
INIT_OBJS := $(patsubst %.c,$(O)/init-obj/%.o,$(INIT_SRCS)) $(O)/init-obj/gen/exec.pb-c.o
# Static, small, and never instrumented: it runs where no sanitizer or profile can write its report.
INIT_CFLAGS = $(BASE_FLAGS) $(WARN) -Os $(HARDEN) -ffunction-sections -fdata-sections $(PKG_CFLAGS)
INIT_LIBS := -Wl,--gc-sections -Wl,-Bstatic -lnghttp2 -lprotobuf-c

$(O)/ec1-init: $(INIT_OBJS)
	@echo "  LD      $@"
	@$(CC) -static -s -o $@ $^ $(INIT_LIBS)

$(O)/init-obj/%.o: %.c $(PROTO_GEN)
	@mkdir -p $(@D)
	@echo "  CC      $< (init)"
	@$(CC) $(INIT_CFLAGS) -MMD -MP -c -o $@ $<

$(O)/init-obj/gen/exec.pb-c.o: $(PROTO_GEN)
	@mkdir -p $(@D)
	@$(CC) $(BASE_FLAGS) -Os -ffunction-sections -fdata-sections $(PKG_CFLAGS) -w -MMD -MP -c -o $@ $<

-include $(shell find $(O)/init-obj -name '*.d' 2>/dev/null)

# The same sources without main.c, built like everything else, for tests on this host: unit tests, and
# a server for foreign gRPC clients.
INIT_HOST_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(filter-out guest/init/main.c %_test.c,$(wildcard guest/init/*.c)))
INIT_TEST_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(wildcard guest/init/*_test.c)) $(O)/obj/tests/lib/main.o
TEST_BINS += $(O)/test/init

$(O)/test/init: $(INIT_TEST_OBJS) $(INIT_HOST_OBJS) $(O)/libec1.a
$(O)/test/exec-serve: $(O)/obj/tests/exec/serve.o $(INIT_HOST_OBJS) $(O)/libec1.a
$(O)/test/init $(O)/test/exec-serve:
	@mkdir -p $(@D)
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(O)/libec1.a $(PKG_LIBS) -lcmocka
