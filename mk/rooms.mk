# rooms.mk — the sources of every room, the `ec1` binary, and one test program per room.
#
# A room is a folder under src/.  Its *_test.c files make one program build/test/<room>; all others go
# into libec1.a.  A room may bring its own flags in src/<room>/room.mk (ROOM_CFLAGS_<room> += ...).

SRCS := $(sort $(shell find src -name '*.c' ! -name '*_test.c'))
TEST_SRCS := $(sort $(shell find src -name '*_test.c'))
MAIN_SRC := src/cli/main.c
FC_MAIN_SRC := src/cli/main_firecracker.c
JAILER_MAIN_SRC := src/cli/main_jailer.c
PROTO_GEN := $(O)/gen/proto/exec.pb-c.c
LIB_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(filter-out $(MAIN_SRC) $(FC_MAIN_SRC) $(JAILER_MAIN_SRC),$(SRCS))) $(O)/obj/gen/exec.pb-c.o
TEST_ROOMS := $(sort $(patsubst src/%/,%,$(dir $(TEST_SRCS))))
TEST_BINS := $(foreach r,$(TEST_ROOMS),$(O)/test/$(subst /,-,$(r)))

# Rooms that see numbers from outside convert nothing silently.
CONVERT_ROOMS := mem dev config codec boot image proto state seccomp
convert = $(if $(filter $(CONVERT_ROOMS),$(word 2,$(subst /, ,$(1)))),-Wconversion)

-include $(sort $(shell find src -name room.mk))
room_flags = $(ROOM_CFLAGS_$(subst /,-,$(patsubst src/%/,%,$(dir $(1)))))

all: $(O)/ec1 $(O)/ec1-init $(O)/firecracker $(O)/vimto $(O)/seccompiler-bin $(O)/jailer

# The same program; its name says what it is to be.
$(O)/vimto $(O)/seccompiler-bin: $(O)/ec1
	@ln -sf ec1 $@

$(O)/ec1: $(O)/obj/$(MAIN_SRC:.c=.o) $(O)/libec1.a
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS)

# Only what the REST interface needs, from static libraries but for the C library and lwIP, which has none: to
# load two libraries takes a third of the time that twenty-three take, and a jail must hold them.
FC_LIBS := -Wl,-Bstatic -ljansson -lz -lzstd -llz4 -llzma -lbz2 -llzo2 -luring -lcrypto -lcap -Wl,-Bdynamic \
	-llwip -lpthread

$(O)/firecracker: $(O)/obj/$(FC_MAIN_SRC:.c=.o) $(O)/libec1.a
	@echo "  LD      $@"
	@rm -f $@ && $(CC) $(LDFLAGS_ALL) -Wl,--gc-sections -o $@ $^ $(FC_LIBS)

$(O)/jailer: $(O)/obj/$(JAILER_MAIN_SRC:.c=.o) $(O)/libec1.a
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $^

$(O)/libec1.a: $(LIB_OBJS)
	@echo "  AR      $@"
	@rm -f $@ && ar rcs $@ $^

# The generated header is a system header (-isystem), which -MMD leaves out: with it all is built again.
$(O)/obj/%.o: %.c $(PROTO_GEN)
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS_ALL) $(call convert,$<) $(call room_flags,$<) -MMD -MP -c -o $@ $<

# Tests may convert freely.
$(O)/obj/%_test.o: %_test.c $(PROTO_GEN)
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS_ALL) -Wframe-larger-than=262144 $(call room_flags,$<) -MMD -MP -c -o $@ $<

# Generated code answers to its generator, not to our warnings.
$(O)/gen/proto/exec.pb-c.c: src/proto/exec.proto
	@mkdir -p $(@D)
	@echo "  PROTOC  $<"
	@protoc-c --proto_path=src/proto --c_out=$(@D) exec.proto
	@sed -i 's/(char \*)protobuf_c_empty_string/(char *)(uintptr_t)protobuf_c_empty_string/g' $(@:.c=.h)  # -Wcast-qual

$(O)/obj/gen/exec.pb-c.o: $(PROTO_GEN)
	@mkdir -p $(@D)
	@$(CC) $(BASE_FLAGS) $(MODE_CFLAGS) $(PKG_CFLAGS) -w -MMD -MP -c -o $@ $<

define test_program
$(O)/test/$(subst /,-,$(1)): $$(patsubst %.c,$(O)/obj/%.o,$$(filter $$(wildcard src/$(1)/*_test.c),$$(TEST_SRCS))) $(O)/obj/tests/lib/main.o $(O)/libec1.a
	@mkdir -p $$(@D)
	@echo "  LD      $$@"
	@$$(CC) $$(LDFLAGS_ALL) -o $$@ $$(filter %.o,$$^) $(O)/libec1.a $$(PKG_LIBS) -lcmocka $$(TEST_LIBS_$(subst /,-,$(1)))
endef
$(foreach r,$(TEST_ROOMS),$(eval $(call test_program,$(r))))

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)
