"""What `make demo` runs; no part of the product."""
