# check.mk — tests, lint, coverage.

.PHONY: all unit test-programs lint lint-full lint-setup lint-form lint-tidy lint-tidy-tests lint-cppcheck \
	lint-shell coverage coverage-run format clean

# Unit tests: every room's program, one after the other.
unit: $(TEST_BINS)
	@set -e; for t in $(TEST_BINS); do echo "  TEST    $$t"; CMOCKA_MESSAGE_OUTPUT=stdout $$t > $$t.log 2>&1 || { cat $$t.log; exit 1; }; done
	@cat $(addsuffix .log,$(TEST_BINS)) | awk '/PASSED  \]/ { p += $$4 } /SKIPPED \]/ { s += $$4 } END { print "unit: " p " passed, 0 failed, " s+0 " skipped" }'

test-programs: $(TEST_BINS) $(O)/test/vm

unit/%: $(O)/test/%
	$<

# The software engine's random tests, long: ten million single instructions and a million sequences, on all
# cores.
.PHONY: test-engine-long
test-engine-long: setup-test
	@$(AGAIN) $(JOBS) all kernel $(O)/test/hv-soft-cache $(O)/test/vm
	@tools/engine-long $(O)/test/hv-soft-cache $(O)/test/vm $(if $(filter-out 1,$(EC1_SEED)),$(EC1_SEED))

# --- lint ---

C_FILES = $(shell git ls-files '*.c' '*.h' | grep -v '^build')
# Our code, and the tests, which may do what code may not: system(), casts of numbers to pointers.
TIDY_FILES = $(shell git ls-files 'src/*.c' 'guest/*.c' | grep -v '_test\.c$$')
TIDY_TESTS = $(shell git ls-files '*_test.c' 'tests/*.c')
SHELL_FILES = $(shell git ls-files tools ci .ci tests/nested tests/stress | xargs grep -lE '^\#!.*\<(ba)?sh\>')

lint: lint-form lint-shell lint-cppcheck lint-tidy
lint-full: lint lint-tidy-tests

lint-setup:
	@tools/setup build test lint

# A second make, because the lint-setup may bring what pkg-config and protoc-c must see.
lint-form: lint-setup
	tools/check-layers
	tools/check-size
	tools/check-forbidden
	clang-format --dry-run -Werror $(C_FILES)
	@$(AGAIN) $(PROTO_GEN)
	tools/check-headers $(CC) $(BASE_FLAGS) $(WARN) $(PKG_CFLAGS)

lint-shell: lint-setup
	shellcheck -S warning $(SHELL_FILES)

# memleak, resourceLeak: AUTO_* (base/auto.h) is unknown to cppcheck; the sanitizers find leaks.
# shiftTooManyBitsSigned: gcc and clang define >> of negative numbers, and CWD is one.
lint-cppcheck: lint-setup
	cppcheck -q -j2 --std=c11 -Isrc -I. --enable=warning,portability --suppress=memleak \
		--suppress=resourceLeak --suppress=shiftTooManyBitsSigned --inline-suppr --error-exitcode=1 src guest

lint-tidy: lint-setup
	@$(AGAIN) $(PROTO_GEN)
	@echo "  TIDY    src guest"
	@tools/tidy build/lint/tidy '' $(TIDY_FILES) -- $(BASE_FLAGS) $(PKG_CFLAGS)

lint-tidy-tests: lint-setup
	@$(AGAIN) $(PROTO_GEN)
	@echo "  TIDY    tests"
	@tools/tidy build/lint/tidy '-cert-env33-c,-readability-function-*' $(TIDY_TESTS) -- $(BASE_FLAGS) $(PKG_CFLAGS)

format:
	clang-format -i $(C_FILES)

# --- coverage ---

# Which functions the tests call, by room: unit tests, then a user's commands on the software engine.
COVERAGE_MINIMUM := 85
# Random instructions: enough for most handlers of hv/soft/ref, each of which is one form of an instruction.
COVERAGE_CASES := 60000
# Of the tests of microVMs those that ask much and boot little.
COVERAGE_FC := $(addprefix tests/fc/,test_api.py test_server.py test_cmdline.py test_boot.py test_pmem.py)

coverage: setup-test
	@$(AGAIN) MODE=cov coverage-run

coverage-run:
	@find $(O) -name '*.gcda' -delete 2>/dev/null || true
	@$(AGAIN) $(JOBS) all kernel test-programs
	@EC1_DIFF_CASES=$(COVERAGE_CASES) $(AGAIN) unit
	@$(AGAIN) blackbox-soft FC_TESTS='$(COVERAGE_FC)'
	@tools/function-coverage $(O) $(COVERAGE_MINIMUM)

clean:
	rm -rf build
