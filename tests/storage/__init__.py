"""Tests of what lies between the server and its stores."""
