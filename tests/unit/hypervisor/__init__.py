"""Tests of the packages below hypervisor/: sockets of this process only."""
