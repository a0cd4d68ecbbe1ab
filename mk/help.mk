# help.mk — what one can ask for.

.PHONY: help
help:
	@echo "make          build build/ec1 and build/ec1-init"
	@echo "make unit     unit tests (make unit/<room> for one room, / written as -)"
	@echo "make lint     layering, format, static analysis"
	@echo "make format   clang-format everything"
	@echo "make MODE=san / MODE=cov / CC=clang ... any of the above in another variant"
