"""Tests of what tenants share."""
