# What these do is in scripts/, which works without make, too.
.PHONY: bench demo quick test

bench:
	@scripts/bench

demo:
	@scripts/demo

quick:
	@scripts/test quick

test:
	@scripts/test
