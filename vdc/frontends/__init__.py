"""Front ends: each presents a disk to programs that have never heard of it."""
