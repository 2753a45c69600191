# Three commands; what they do is in scripts/, which works without make, too.
.PHONY: bench demo test

bench:
	@scripts/bench

demo:
	@scripts/demo

test:
	@scripts/test
