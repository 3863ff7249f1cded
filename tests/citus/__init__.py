"""The product on a Citus cluster: a coordinator and two workers, started from the programs in ``CITUS_BIN``."""
