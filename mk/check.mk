# check.mk — tests, lint, coverage.

.PHONY: all unit lint format clean

# Unit tests: every room's program, one after the other.
unit: $(TEST_BINS)
	@set -e; for t in $(TEST_BINS); do echo "  TEST    $$t"; CMOCKA_MESSAGE_OUTPUT=stdout $$t > $$t.log 2>&1 || { cat $$t.log; exit 1; }; done
	@cat $(addsuffix .log,$(TEST_BINS)) | awk '/PASSED  \]/ { p += $$4 } /SKIPPED \]/ { s += $$4 } END { print "unit: " p " passed, 0 failed, " s+0 " skipped" }'

unit/%: $(O)/test/%
	$<

C_FILES = $(shell git ls-files '*.c' '*.h' | grep -v '^build')

format:
	clang-format -i $(C_FILES)

lint:
	tools/check-layers
	clang-format --dry-run -Werror $(C_FILES)

clean:
	rm -rf build
