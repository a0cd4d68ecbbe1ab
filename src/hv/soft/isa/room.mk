# The decoder is held against Zydis in its test.
TEST_LIBS_hv-soft-isa := -lZydis
