# Two commands; what they do is in scripts/, which works without make, too.
.PHONY: demo test

demo:
	@scripts/demo

test:
	@scripts/test
